"""timm's vision transformer written out in torch, plainly, with the names of its tensors.

From timm's layout (github.com/huggingface/pytorch-image-models) and the arguments that the models'
authors publish. It shares no code with our models.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from biofm_jax.zoo.timm_vit import ARCHITECTURES


class TimmVit(nn.Module):
    """A vision transformer of a timm `config.json`."""

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        args = dict(patch_size=16, img_size=224, mlp_ratio=4.0, reg_tokens=0)
        args |= ARCHITECTURES[config["architecture"]] | config.get("model_args", {})
        self.args, width, patch = args, args["embed_dim"], args["patch_size"]
        self.packed = args.get("mlp_layer") == "SwiGLUPacked"
        hidden = int(width * args["mlp_ratio"])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.before = 0 if args.get("no_embed_class") else 1 + args["reg_tokens"]
        patches = (args["img_size"] // patch) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + self.before, width))
        if args["reg_tokens"]:
            self.reg_token = nn.Parameter(torch.zeros(1, args["reg_tokens"], width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.ModuleList()
        for _ in range(args["depth"]):
            block = nn.Module()
            block.attn, block.mlp = nn.Module(), nn.Module()
            block.norm1, block.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
            block.attn.qkv, block.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            block.mlp.fc1 = nn.Linear(width, hidden)
            block.mlp.fc2 = nn.Linear(hidden // 2 if self.packed else hidden, width)
            if args.get("init_values"):
                block.ls1, block.ls2 = nn.Module(), nn.Module()
                block.ls1.gamma = nn.Parameter(torch.ones(width))
                block.ls2.gamma = nn.Parameter(torch.ones(width))
            self.blocks.append(block)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixel_values, output_hidden_states=True):
        """(b, c, h, w) -> hidden states, the last one behind the norm."""
        hidden = self._embedded(pixel_values)
        states = [hidden]
        for block in self.blocks:
            scale = [getattr(block, n).gamma if hasattr(block, n) else 1.0 for n in ("ls1", "ls2")]
            hidden = hidden + scale[0] * self._attend(block.attn, block.norm1(hidden))
            inner = block.mlp.fc1(block.norm2(hidden))
            act = functional.silu if self.args.get("act_layer") == "SiLU" else functional.gelu
            if self.packed:
                gate, value = inner.chunk(2, dim=-1)
                inner = act(gate) * value
            else:
                inner = act(inner)
            hidden = hidden + scale[1] * block.mlp.fc2(inner)
            states.append(hidden)
        last = self.norm(hidden)
        return SimpleNamespace(last_hidden_state=last, hidden_states=[*states[:-1], last])

    def _embedded(self, pixel_values):
        x = self.patch_embed.proj(pixel_values)
        grid, rows = x.shape[-2:], len(x)
        x = x.flatten(2).transpose(1, 2)
        front, table = self.pos_embed[:, : self.before], self.pos_embed[:, self.before :]
        side = math.isqrt(table.shape[1])
        if (side, side) != tuple(grid):
            table = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
            table = functional.interpolate(table, grid, mode="bicubic", antialias=True)
            table = table.flatten(2).transpose(1, 2)
        tokens = [self.cls_token]
        if self.args["reg_tokens"]:
            tokens.append(self.reg_token)
        tokens = torch.cat(tokens, dim=1)
        tokens = tokens + front if self.before else tokens
        return torch.cat([tokens.expand(rows, -1, -1), x + table], dim=1)

    def _attend(self, attention, x):
        heads, (rows, length, width) = self.args["num_heads"], x.shape
        qkv = attention.qkv(x).reshape(rows, length, 3, heads, width // heads)
        query, key, value = (qkv[:, :, i].transpose(1, 2) for i in range(3))
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(width // heads), dim=-1)
        return attention.proj((weights @ value).transpose(1, 2).reshape(rows, length, width))

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(self.config))
