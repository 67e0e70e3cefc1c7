"""ProGen2 written out in torch, slowly and plainly: the reference of its weights' layout.

From Nijkamp et al. 2023, doi 10.1016/j.cels.2023.10.002, and the published configuration and
tensors: one norm a block, attention and feed-forward beside each other on it; `qkv_proj` made for
eight cores, each with queries, values, keys; rotary angles on the first dimensions of each head,
neighbours paired; output weights of their own with a bias. It shares no code with our models.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

CORES = 8


class ProGen2(nn.Module):
    """A causal language model of proteins with the published names of its tensors."""

    def __init__(
        self, vocabulary: int, layers: int, width: int, heads: int, rotated: int, feedforward: int
    ):
        super().__init__()
        self.config = dict(
            model_type="progen",
            vocab_size=vocabulary,
            n_layer=layers,
            n_embd=width,
            n_head=heads,
            rotary_dim=rotated,
            n_inner=feedforward,
            n_positions=64,
            layer_norm_epsilon=1e-5,
            activation_function="gelu_new",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
        blocks = nn.ModuleList()
        for _ in range(layers):
            attention = nn.Module()
            attention.qkv_proj = nn.Linear(width, 3 * width, bias=False)
            attention.out_proj = nn.Linear(width, width, bias=False)
            feed = nn.Module()
            feed.fc_in = nn.Linear(width, feedforward)
            feed.fc_out = nn.Linear(feedforward, width)
            block = nn.Module()
            block.ln_1, block.attn, block.mlp = nn.LayerNorm(width), attention, feed
            blocks.append(block)
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(vocabulary, width)
        self.transformer.h = blocks
        self.transformer.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary)

    def forward(self, input_ids, attention_mask, output_hidden_states=True):
        """Logits (b, t, v) and hidden states; the mask plays no part behind causal attention."""
        hidden = self.transformer.wte(input_ids)
        states = [hidden]
        for block in self.transformer.h:
            read = block.ln_1(hidden)
            inner = block.mlp.fc_in(read)
            cubic = inner + 0.044715 * inner**3
            inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * cubic))
            hidden = hidden + self._attend(block.attn, read) + block.mlp.fc_out(inner)
            states.append(hidden)
        states[-1] = self.transformer.ln_f(hidden)
        return SimpleNamespace(logits=self.lm_head(states[-1]), hidden_states=states)

    def _attend(self, attention, read):
        heads, (rows, length, width) = self.config["n_head"], read.shape
        size, of_core = width // heads, heads // CORES
        shares = attention.qkv_proj(read).view(rows, length, CORES, 3 * of_core * size)
        query, value, key = shares.split(of_core * size, dim=-1)
        query, value, key = (x.reshape(rows, length, heads, size) for x in (query, value, key))
        outputs = []
        for head in range(heads):
            q, k = (self._rotated(x[:, :, head]) for x in (query, key))
            scores = q @ k.transpose(1, 2) / math.sqrt(size)
            ahead = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
            weights = torch.softmax(scores.masked_fill(ahead, -1e9), dim=-1)
            outputs.append(weights @ value[:, :, head])
        return attention.out_proj(torch.cat(outputs, dim=-1))

    def _rotated(self, x):
        columns = []
        rotated = self.config["rotary_dim"]
        for pair in range(rotated // 2):
            angle = torch.arange(x.shape[1]) / 10000 ** (2 * pair / rotated)
            first, second = x[:, :, 2 * pair], x[:, :, 2 * pair + 1]
            columns.append(first * torch.cos(angle) - second * torch.sin(angle))
            columns.append(second * torch.cos(angle) + first * torch.sin(angle))
        return torch.cat([torch.stack(columns, dim=-1), x[:, :, rotated:]], dim=-1)

    def save_pretrained(self, folder: Path) -> None:
        """Write `pytorch_model.bin`, with the mask buffers of published files, and config.json."""
        state = self.state_dict()
        for i in range(self.config["n_layer"]):
            mask = torch.tril(torch.ones(64, 64, dtype=torch.bool))[None, None]
            state[f"transformer.h.{i}.attn.bias"] = mask
            state[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e9)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(self.config))
