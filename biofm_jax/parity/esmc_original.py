"""ESM C written out in torch with the names of the weights that its authors released.

From the released configuration and tensors (github.com/evolutionaryscale/esm): each block's first
norm is stored with the fused product behind it, queries, keys and values one below the other; of
the gated product the gate comes first. It shares no code with our models.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional


class SwiGlu(nn.Module):
    """The first half of the numbers gates the second."""

    def forward(self, x):
        """(..., 2 f) -> (..., f)."""
        gate, value = x.chunk(2, dim=-1)
        return functional.silu(gate) * value


def attention(heads: int, width: int, first: nn.Module) -> nn.Module:
    """The parts of an attention; `first` is the norm with the fused product behind it."""
    made = nn.Module()
    made.heads, made.layernorm_qkv = heads, first
    made.out_proj = nn.Linear(width, width, bias=False)
    made.q_ln = nn.LayerNorm(width, bias=False)
    made.k_ln = nn.LayerNorm(width, bias=False)
    return made


def head(width: int, vocabulary: int) -> nn.Sequential:
    """From hidden states to logits."""
    return nn.Sequential(
        nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, vocabulary)
    )


def run(embed: nn.Module, stack: nn.Module, head: nn.Module, tokens, mask) -> SimpleNamespace:
    """Logits (b, t, v) and hidden states; padding is seen by no other token."""
    scale = math.sqrt(len(stack.blocks) / 36)
    hidden = embed(tokens)
    states = [hidden]
    for block in stack.blocks:
        hidden = hidden + _attend(block.attn, hidden, mask) / scale
        hidden = hidden + block.ffn(hidden) / scale
        states.append(hidden)
    states[-1] = stack.norm(hidden)
    return SimpleNamespace(logits=head(states[-1]), hidden_states=states)


class EsmC(nn.Module):
    """A masked language model of proteins; the names of its tensors are the released ones."""

    def __init__(self, vocabulary: int, layers: int, width: int, heads: int, feedforward: int):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.transformer = nn.Module()
        self.transformer.blocks = nn.ModuleList()
        for _ in range(layers):
            block = nn.Module()
            first = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width, bias=False))
            block.attn = attention(heads, width, first)
            block.ffn = nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, 2 * feedforward, bias=False),
                SwiGlu(),
                nn.Linear(feedforward, width, bias=False),
            )
            self.transformer.blocks.append(block)
        self.transformer.norm = nn.LayerNorm(width, bias=False)
        self.sequence_head = head(width, vocabulary)

    def forward(self, input_ids, attention_mask, output_hidden_states=True):
        """As `run`."""
        return run(self.embed, self.transformer, self.sequence_head, input_ids, attention_mask)

    def save_pretrained(self, folder: Path) -> None:
        """Write one torch file of tensors; the release has no configuration file."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), folder / "esmc_2024_12_v0.pth")


def _attend(attention, hidden, mask):
    query, key, value = attention.layernorm_qkv(hidden).chunk(3, dim=-1)
    query, key = attention.q_ln(query), attention.k_ln(key)
    size = hidden.shape[-1] // attention.heads
    outputs = []
    for number in range(attention.heads):
        columns = slice(number * size, (number + 1) * size)
        q, k = _rotated(query[:, :, columns]), _rotated(key[:, :, columns])
        scores = q @ k.transpose(1, 2) / math.sqrt(size)
        scores = scores.masked_fill(mask[:, None] == 0, -1e30)
        outputs.append(torch.softmax(scores, dim=-1) @ value[:, :, columns])
    return attention.out_proj(torch.cat(outputs, dim=-1))


def _rotated(x):
    """The first half of the dimensions paired with the second, wavelengths up to 10,000."""
    half = x.shape[-1] // 2
    turns = torch.arange(x.shape[1])[:, None] / 10000 ** (torch.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = torch.cos(turns), torch.sin(turns)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
