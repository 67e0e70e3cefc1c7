"""BiomedCLIP with the names of its tensors: timm's vision transformer as `timm_vit` writes it out,
transformers' BERT, and between them what open_clip does.

From open_clip's layout (github.com/mlfoundations/open_clip). It shares no code with our models.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from biofm_jax.parity.timm_vit import TimmVit
from biofm_jax.zoo.biomedclip import BASE


class BiomedClip(nn.Module):
    """The two towers of an `open_clip_config.json`."""

    def __init__(self, config: dict):
        import transformers

        super().__init__()
        self.config, model = config, config["model_cfg"]
        image, words, width = model["vision_cfg"], model["text_cfg"], model["embed_dim"]
        args = {"img_size": image["image_size"]} | image.get("timm_model_args", {})
        self.visual, self.text = nn.Module(), nn.Module()
        self.visual.trunk = TimmVit({"architecture": image["timm_model_name"], "model_args": args})
        seen = self.visual.trunk.args["embed_dim"]
        self.visual.head = nn.Module()
        self.visual.head.proj = nn.Linear(seen, width, bias=False)
        bert = transformers.BertConfig(**BASE | words.get("hf_model_config", {}))
        self.text.transformer = transformers.BertModel(bert, add_pooling_layer=False)
        read = bert.hidden_size
        if words["hf_proj_type"] == "mlp":
            middle = (read + width) // 2
            self.text.proj = nn.Sequential(
                nn.Linear(read, middle, bias=False), nn.GELU(), nn.Linear(middle, width, bias=False)
            )
        else:
            self.text.proj = nn.Linear(read, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, input_ids, attention_mask, pixel_values, output_hidden_states=True):
        """(b, t) ids and (b, c, h, w) pixels -> (b, b) similarities of images with texts."""
        image = self.visual.trunk(pixel_values)
        text = self.text.transformer(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        )
        one = functional.normalize(self.visual.head.proj(image.last_hidden_state[:, 0]), dim=-1)
        two = functional.normalize(self.text.proj(text.last_hidden_state[:, 0]), dim=-1)
        return SimpleNamespace(
            logits_per_image=self.logit_scale.exp() * one @ two.T,
            vision_model_output=image,
            text_model_output=text,
        )

    def save_pretrained(self, folder: Path) -> None:
        """Write `open_clip_model.safetensors` and `open_clip_config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
        (folder / "open_clip_config.json").write_text(json.dumps(self.config))
