"""ETHOS written out in torch, slowly and plainly, with the names of its authors' tensors.

From Renc et al. 2024, doi 10.1038/s41746-024-01235-0, and the authors' tensors: GPT-2's block with
torch's own linear layers, exact GELU, and no biases where the configuration says so; the token
embeddings are the output weights, and are saved under both names. It shares no code with our
models.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn


class Ethos(nn.Module):
    """A causal language model of health timelines."""

    def __init__(
        self, vocabulary: int, layers: int, width: int, heads: int, bias: bool, positions: int = 130
    ):
        super().__init__()
        self.config = dict(
            model_type="ethos",
            vocab_size=vocabulary,
            block_size=positions,
            n_layer=layers,
            n_embd=width,
            n_head=heads,
            bias=bias,
            dropout=0.0,
        )
        blocks = nn.ModuleList()
        for _ in range(layers):
            block = nn.Module()
            block.attn, block.mlp = nn.Module(), nn.Module()
            block.ln_1, block.ln_2 = (nn.LayerNorm(width, bias=bias) for _ in range(2))
            block.attn.c_attn = nn.Linear(width, 3 * width, bias=bias)
            block.attn.c_proj = nn.Linear(width, width, bias=bias)
            block.mlp.c_fc = nn.Linear(width, 4 * width, bias=bias)
            block.mlp.c_proj = nn.Linear(4 * width, width, bias=bias)
            blocks.append(block)
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(vocabulary, width)
        self.transformer.wpe = nn.Embedding(positions, width)
        self.transformer.h = blocks
        self.transformer.ln_f = nn.LayerNorm(width, bias=bias)

    def forward(self, input_ids, attention_mask, output_hidden_states=True):
        """Logits (b, t, v) and hidden states; the mask plays no part behind causal attention."""
        parts = self.transformer
        hidden = parts.wte(input_ids) + parts.wpe.weight[: input_ids.shape[1]]
        states = [hidden]
        for block in parts.h:
            hidden = hidden + self._attend(block.attn, block.ln_1(hidden))
            inner = nn.functional.gelu(block.mlp.c_fc(block.ln_2(hidden)))
            hidden = hidden + block.mlp.c_proj(inner)
            states.append(hidden)
        states[-1] = parts.ln_f(hidden)
        return SimpleNamespace(logits=states[-1] @ parts.wte.weight.T, hidden_states=states)

    def _attend(self, attention, read):
        heads, (_, length, width) = self.config["n_head"], read.shape
        query, key, value = attention.c_attn(read).split(width, dim=2)
        size = width // heads
        ahead = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
        outputs = []
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            scores = query[..., columns] @ key[..., columns].transpose(1, 2) / math.sqrt(size)
            weights = torch.softmax(scores.masked_fill(ahead, -math.inf), dim=-1)
            outputs.append(weights @ value[..., columns])
        return attention.c_proj(torch.cat(outputs, dim=-1))

    def save_pretrained(self, folder: Path) -> None:
        """Write `pytorch_model.bin`, the weights in it under "model", and config.json."""
        state = self.state_dict()
        state["lm_head.weight"] = state["transformer.wte.weight"]
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"model": state}, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(self.config))
