"""CLIP written out in torch, plainly, with the names of its authors' tensors.

From the layout of github.com/openai/CLIP. It shares no code with our models.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from torch import nn

ACTIVATIONS = {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "gelu": nn.functional.gelu}


class Transformer(nn.Module):
    """Blocks that normalise first, of a `vision_config` or `text_config` of transformers."""

    def __init__(self, config: dict):
        super().__init__()
        width, self.activation = config["hidden_size"], ACTIVATIONS[config["hidden_act"]]
        self.resblocks = nn.ModuleList()
        for _ in range(config["num_hidden_layers"]):
            block = nn.Module()
            block.attn = nn.MultiheadAttention(width, config["num_attention_heads"])
            block.ln_1, block.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            block.mlp = nn.Module()
            block.mlp.c_fc = nn.Linear(width, config["intermediate_size"])
            block.mlp.c_proj = nn.Linear(config["intermediate_size"], width)
            self.resblocks.append(block)

    def forward(self, x, mask=None):
        """(b, t, d) -> the input and the output of each block."""
        states = [x]
        for block in self.resblocks:
            y = block.ln_1(x).transpose(0, 1)
            x = x + block.attn(y, y, y, need_weights=False, attn_mask=mask)[0].transpose(0, 1)
            x = x + block.mlp.c_proj(self.activation(block.mlp.c_fc(block.ln_2(x))))
            states.append(x)
        return states


class OpenaiClip(nn.Module):
    """Both towers of a CLIP `config.json` of transformers."""

    def __init__(self, config: dict):
        super().__init__()
        self.config, shared = config, config["projection_dim"]
        image, text = config["vision_config"], config["text_config"]
        width, patch = image["hidden_size"], image["patch_size"]
        self.visual = nn.Module()
        self.visual.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.visual.class_embedding = _table(width)
        self.visual.positional_embedding = _table((image["image_size"] // patch) ** 2 + 1, width)
        self.visual.ln_pre, self.visual.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.visual.transformer = Transformer(image)
        self.visual.proj = _table(width, shared)
        width = text["hidden_size"]
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = _table(text["max_position_embeddings"], width)
        self.transformer, self.ln_final = Transformer(text), nn.LayerNorm(width)
        self.text_projection = _table(width, shared)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, input_ids, pixel_values, attention_mask=None, output_hidden_states=True):
        """(b, t) and (b, c, h, w) -> similarities, and the hidden states of both towers.

        The vector of a text is that of its highest id, the end of text; padding behind it is seen
        by nothing before it.
        """
        patches = self.visual.conv1(pixel_values).flatten(2).transpose(1, 2)
        first = self.visual.class_embedding.expand(len(patches), 1, -1)
        x = torch.cat([first, patches], dim=1) + self.visual.positional_embedding
        seen = self.visual.transformer(self.visual.ln_pre(x))
        image = self.visual.ln_post(seen[-1][:, 0]) @ self.visual.proj
        length = input_ids.shape[1]
        later = torch.full((length, length), -torch.inf).triu(1)
        x = self.token_embedding(input_ids) + self.positional_embedding[:length]
        read = self.transformer(x, later)
        ends = input_ids.argmax(dim=1)
        text = self.ln_final(read[-1])[torch.arange(len(ends)), ends] @ self.text_projection
        image, text = (x / x.norm(dim=1, keepdim=True) for x in (image, text))
        return SimpleNamespace(
            logits_per_image=self.logit_scale.exp() * image @ text.T,
            vision_model_output=SimpleNamespace(hidden_states=seen),
            text_model_output=SimpleNamespace(hidden_states=read),
        )

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(self.config))


def _table(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))
