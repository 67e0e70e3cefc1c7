"""Uni-Mol written out in torch, slowly and plainly, with the published names of its tensors.

From Zhou et al. 2023, ChemRxiv 10.26434/chemrxiv-2022-jjm0j-v4, and the published tensors of
`mol_pre_all_h_220816.pt` (github.com/deepmodeling/Uni-Mol, whose code is under the MIT licence). It
reads one molecule at a time, so that there is no padding: in the published implementation padded
places, which lie at the origin, pull at the coordinates of a batch. It shares no code with our
models.
"""

import math
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn


class UniMol(nn.Module):
    """Elements, coordinates and distances of a molecule in space."""

    def __init__(self, vocabulary: int, layers: int, width: int, heads: int, feedforward: int,
                 kernels: int):  # fmt: skip
        super().__init__()
        self.config = dict(
            vocab_size=vocabulary,
            encoder_layers=layers,
            encoder_embed_dim=width,
            encoder_ffn_embed_dim=feedforward,
            encoder_attention_heads=heads,
            kernels=kernels,
        )

        def part(**modules):
            made = nn.Module()
            for name, module in modules.items():
                setattr(made, name, module)
            return made

        def two(inputs, outputs):
            return part(linear1=nn.Linear(inputs, inputs), linear2=nn.Linear(inputs, outputs))

        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.encoder = part(
            emb_layer_norm=nn.LayerNorm(width),
            final_layer_norm=nn.LayerNorm(width),
            final_head_layer_norm=nn.LayerNorm(heads),
            layers=nn.ModuleList(
                part(
                    self_attn=part(
                        in_proj=nn.Linear(width, 3 * width), out_proj=nn.Linear(width, width)
                    ),
                    self_attn_layer_norm=nn.LayerNorm(width),
                    fc1=nn.Linear(width, feedforward),
                    fc2=nn.Linear(feedforward, width),
                    final_layer_norm=nn.LayerNorm(width),
                )
                for _ in range(layers)
            ),
        )
        self.lm_head = part(
            dense=nn.Linear(width, width),
            layer_norm=nn.LayerNorm(width),
            weight=nn.Parameter(torch.zeros(vocabulary, width)),
            bias=nn.Parameter(torch.zeros(vocabulary)),
        )
        self.gbf_proj = two(kernels, heads)
        kinds = vocabulary * vocabulary
        self.gbf = part(
            means=nn.Embedding(1, kernels),
            stds=nn.Embedding(1, kernels),
            mul=nn.Embedding(kinds, 1),
            bias=nn.Embedding(kinds, 1),
        )
        self.pair2coord_proj = two(heads, 1)
        self.dist_head = part(
            dense=nn.Linear(heads, heads),
            layer_norm=nn.LayerNorm(heads),
            out_proj=nn.Linear(heads, 1),
        )

    def forward(self, tokens, coordinates):
        """One molecule: tokens (t,) and coordinates (t, 3) -> elements, places, distances."""
        x = self.encoder.emb_layer_norm(self.embed_tokens(tokens))
        states, first = [x], self._bias(tokens, coordinates)
        pairs = first
        for layer in self.encoder.layers:
            seen, pairs = self._attend(layer.self_attn, layer.self_attn_layer_norm(x), pairs)
            x = x + seen
            x = x + layer.fc2(nn.functional.gelu(layer.fc1(layer.final_layer_norm(x))))
            states.append(x)
        states[-1] = x = self.encoder.final_layer_norm(x)
        head = self.lm_head
        read = head.layer_norm(nn.functional.gelu(head.dense(x)))
        logits = read @ head.weight.T + head.bias
        pull = _two(self.pair2coord_proj, self.encoder.final_head_layer_norm(pairs - first))[..., 0]
        moved = []
        for i, place in enumerate(coordinates):
            shift = sum(pull[i, j] * (other - place) for j, other in enumerate(coordinates))
            moved.append(place + shift / (len(coordinates) - 1))
        head = self.dist_head
        far = head.out_proj(head.layer_norm(nn.functional.gelu(head.dense(pairs))))[..., 0]
        return SimpleNamespace(
            logits=logits,
            coordinates=torch.stack(moved),
            distances=(far + far.T) / 2,
            hidden_states=states,
        )

    def _bias(self, tokens, coordinates):
        """(t, t, h) what each pair of atoms begins with."""
        gbf, kinds = self.gbf, self.config["vocab_size"]
        far = torch.linalg.vector_norm(coordinates[:, None] - coordinates[None], dim=-1)
        kind = tokens[:, None] * kinds + tokens[None]
        x = gbf.mul(kind)[..., 0] * far + gbf.bias(kind)[..., 0]
        mean, width = gbf.means.weight[0], gbf.stds.weight[0].abs() + 1e-5
        x = (x[..., None] - mean) / width
        x = torch.exp(-(x**2) / 2) / (math.sqrt(2 * 3.14159) * width)
        return _two(self.gbf_proj, x)

    def _attend(self, attention, read, pairs):
        """What attention adds to the atoms, and the pairs of the next layer."""
        heads, width = self.config["encoder_attention_heads"], read.shape[1]
        size = width // heads
        query, key, value = attention.in_proj(read).split(width, dim=1)
        outputs, scores = [], []
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            score = query[:, columns] @ key[:, columns].T / math.sqrt(size) + pairs[..., head]
            scores.append(score)
            outputs.append(torch.softmax(score, dim=1) @ value[:, columns])
        return attention.out_proj(torch.cat(outputs, dim=1)), torch.stack(scores, dim=-1)

    def save_pretrained(self, folder: Path) -> None:
        """Write the weights as the published file has them, under "model"."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"model": self.state_dict()}, folder / "mol_pre.pt")


def _two(part, x):
    return part.linear2(nn.functional.gelu(part.linear1(x)))
