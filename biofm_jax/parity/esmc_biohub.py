"""ESM C with the names of the weights at the hub of Biohub, its authors' later home.

From the code that reads those files (github.com/Biohub/esm): the model of `esmc_original` with
modules of NVIDIA's Transformer Engine, each of which holds a norm and the products behind it, and
saves an `_extra_state` of its own beside them. It shares no code with our models.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from biofm_jax.parity.esmc_original import SwiGlu, attention, head, run


class Fused(nn.Module):
    """A LayerNorm and the products behind it, all parameters of one module.

    Attributes:
        names: of the products' weights, in order.
    """

    def __init__(self, width: int, **shapes: tuple[int, int]):
        super().__init__()
        self.names = list(shapes)
        self.layer_norm_weight = nn.Parameter(torch.ones(width))
        self.layer_norm_bias = nn.Parameter(torch.zeros(width))
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.zeros(shape)))

    def forward(self, x):
        """(b, t, d) -> the last product; between two of them the gate."""
        size = (x.shape[-1],)
        x = functional.layer_norm(x, size, self.layer_norm_weight, self.layer_norm_bias)
        x = x @ getattr(self, self.names[0]).T
        for name in self.names[1:]:
            x = SwiGlu()(x) @ getattr(self, name).T
        return x


class EsmCBiohub(nn.Module):
    """A masked language model of proteins; the names of its tensors are those of Biohub's files."""

    def __init__(self, vocabulary: int, layers: int, width: int, heads: int):
        super().__init__()
        self.config = dict(
            architectures=["ESMCForMaskedLM"],
            model_type="esmc",
            vocab_size=vocabulary,
            d_model=width,
            n_layers=layers,
            n_heads=heads,
            mask_token_id=32,
            pad_token_id=1,
            tie_word_embeddings=False,
        )
        # The next multiple of 256 above 8/3 of the width.
        inner = int((8 / 3 * width + 255) // 256 * 256)
        self.esmc = nn.Module()
        self.esmc.embed = nn.Embedding(vocabulary, width)
        self.esmc.transformer = nn.Module()
        self.esmc.transformer.blocks = nn.ModuleList()
        for _ in range(layers):
            block = nn.Module()
            block.attn = attention(heads, width, Fused(width, weight=(3 * width, width)))
            block.ffn = Fused(width, fc1_weight=(2 * inner, width), fc2_weight=(width, inner))
            self.esmc.transformer.blocks.append(block)
        self.esmc.transformer.norm = nn.LayerNorm(width, bias=False)
        self.lm_head = head(width, vocabulary)

    def forward(self, input_ids, attention_mask, output_hidden_states=True):
        """As `esmc_original.run`."""
        esmc = self.esmc
        return run(esmc.embed, esmc.transformer, self.lm_head, input_ids, attention_mask)

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        state = dict(self.state_dict())
        for i in range(self.config["n_layers"]):
            for module in ("attn.layernorm_qkv", "ffn"):
                name = f"esmc.transformer.blocks.{i}.{module}._extra_state"
                state[name] = torch.zeros(0, dtype=torch.uint8)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(self.config))
