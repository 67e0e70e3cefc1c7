"""MolGPT written out in torch, slowly and plainly, with the published names of its tensors.

From Bagal et al. 2022, doi 10.1021/acs.jcim.1c00600, and the published tensors: GPT's block with
norms before its branches; token, position and type added; output weights of their own. A condition
(properties, a scaffold) would stand before the molecule; here there is none, and all tokens are of
type 1. It shares no code with our models.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn


class MolGpt(nn.Module):
    """A causal language model of SMILES."""

    def __init__(self, vocabulary: int, layers: int, width: int, heads: int, positions: int = 130):
        super().__init__()
        self.config = dict(
            model_type="molgpt",
            vocab_size=vocabulary,
            block_size=positions,
            n_layer=layers,
            n_embd=width,
            n_head=heads,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            attn_pdrop=0.0,
        )
        self.tok_emb = nn.Embedding(vocabulary, width)
        self.type_emb = nn.Embedding(2, width)
        self.pos_emb = nn.Parameter(torch.zeros(1, positions, width))
        self.blocks = nn.ModuleList()
        for _ in range(layers):
            block = nn.Module()
            block.attn = nn.Module()
            for name in ("key", "query", "value", "proj"):
                setattr(block.attn, name, nn.Linear(width, width))
            block.ln1, block.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
            block.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )
            self.blocks.append(block)
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids, attention_mask, output_hidden_states=True):
        """Logits (b, t, v) and hidden states; the mask plays no part behind causal attention."""
        length = input_ids.shape[1]
        hidden = self.tok_emb(input_ids) + self.pos_emb[:, :length] + self.type_emb.weight[1]
        states = [hidden]
        for block in self.blocks:
            hidden = hidden + self._attend(block.attn, block.ln1(hidden))
            hidden = hidden + block.mlp(block.ln2(hidden))
            states.append(hidden)
        states[-1] = self.ln_f(hidden)
        return SimpleNamespace(logits=self.head(states[-1]), hidden_states=states)

    def _attend(self, attention, read):
        query, key, value = attention.query(read), attention.key(read), attention.value(read)
        heads, (_, length, width) = self.config["n_head"], read.shape
        size = width // heads
        ahead = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
        outputs = []
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            scores = query[..., columns] @ key[..., columns].transpose(1, 2) / math.sqrt(size)
            weights = torch.softmax(scores.masked_fill(ahead, -math.inf), dim=-1)
            outputs.append(weights @ value[..., columns])
        return attention.proj(torch.cat(outputs, dim=-1))

    def save_pretrained(self, folder: Path) -> None:
        """Write `pytorch_model.bin`, with the mask buffers of published files, and config.json."""
        state = self.state_dict()
        longest = self.config["block_size"]
        for i in range(self.config["n_layer"]):
            state[f"blocks.{i}.attn.mask"] = torch.tril(torch.ones(1, 1, longest, longest))
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(self.config))
