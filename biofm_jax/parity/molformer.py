"""MoLFormer written out in torch, slowly and plainly, with the published names of its tensors.

From Ross et al. 2022, doi 10.1038/s42256-022-00580-7, and the published tensors and configuration:
BERT's block with norms behind its branches, rotary queries and keys, and in the place of a softmax
the weights relu(q W) . relu(k W) over their sum; a norm behind the last block; output weights of
their own. Each pair of tokens is looked at by itself, where our model sums over keys first. It
shares no code with our models.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn


class Molformer(nn.Module):
    """A masked language model of SMILES."""

    def __init__(
        self,
        vocabulary: int,
        layers: int,
        width: int,
        heads: int,
        feedforward: int,
        features: int,
        tied: bool = False,
    ):
        super().__init__()
        torch.manual_seed(0)  # of the random features, which are no parameters
        epsilon = 1e-12
        self.config = dict(
            model_type="molformer",
            vocab_size=vocabulary,
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=feedforward,
            hidden_act="gelu",
            layer_norm_eps=epsilon,
            linear_attention_eps=1e-6,
            num_random_features=features,
            feature_map_kernel="relu",
            tie_word_embeddings=tied,
        )

        def part(**modules):
            made = nn.Module()
            for name, module in modules.items():
                setattr(made, name, module)
            return made

        def dense_norm(inputs):
            return part(dense=nn.Linear(inputs, width), LayerNorm=nn.LayerNorm(width, eps=epsilon))

        def layer():
            names = ("query", "key", "value")
            attend = part(**{name: nn.Linear(width, width) for name in names}, feature_map=part())
            attend.feature_map.register_buffer("weight", torch.randn(width // heads, features))
            return part(
                attention=part(self=attend, output=dense_norm(width)),
                intermediate=part(dense=nn.Linear(width, feedforward)),
                output=dense_norm(feedforward),
            )

        self.molformer = part(
            embeddings=part(word_embeddings=nn.Embedding(vocabulary, width)),
            encoder=part(layer=nn.ModuleList(layer() for _ in range(layers))),
            LayerNorm=nn.LayerNorm(width, eps=epsilon),
        )
        self.lm_head = part(
            transform=dense_norm(width), decoder=nn.Linear(width, vocabulary, bias=False)
        )
        if tied:
            self.lm_head.decoder.weight = self.molformer.embeddings.word_embeddings.weight

    def forward(self, input_ids, attention_mask, output_hidden_states=True):
        """Logits (b, t, v) and the n + 1 hidden states, the last behind the final norm."""
        hidden = self.molformer.embeddings.word_embeddings(input_ids)
        states = [hidden]
        for layer in self.molformer.encoder.layer:
            made = layer.attention.output
            seen = self._attend(layer.attention.self, hidden, attention_mask)
            hidden = made.LayerNorm(hidden + made.dense(seen))
            inner = nn.functional.gelu(layer.intermediate.dense(hidden))
            hidden = layer.output.LayerNorm(hidden + layer.output.dense(inner))
            states.append(hidden)
        states[-1] = self.molformer.LayerNorm(hidden)
        transform = self.lm_head.transform
        read = transform.LayerNorm(nn.functional.gelu(transform.dense(states[-1])))
        return SimpleNamespace(logits=self.lm_head.decoder(read), hidden_states=states)

    def _attend(self, attention, read, mask):
        query, key, value = attention.query(read), attention.key(read), attention.value(read)
        heads, width = self.config["num_attention_heads"], read.shape[2]
        size, features = width // heads, attention.feature_map.weight
        outputs = []
        for head in range(heads):
            columns = slice(head * size, (head + 1) * size)
            q = torch.relu(_turned(query[..., columns]) @ features)
            k = torch.relu(_turned(key[..., columns]) @ features)
            weights = (q @ k.transpose(1, 2)) * mask[:, None, :]
            total = weights.sum(-1, keepdim=True).clamp(min=self.config["linear_attention_eps"])
            outputs.append(weights / total @ value[..., columns])
        return torch.cat(outputs, dim=-1)

    def save_pretrained(self, folder: Path) -> None:
        """Write `pytorch_model.bin`, random features among the tensors, and config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(self.config))


def _turned(x):
    """Each pair of dimensions (i, i + size / 2), turned by position / 10000^(2 i / size)."""
    length, half = x.shape[1], x.shape[2] // 2
    turned = torch.empty_like(x)
    for i in range(half):
        angle = torch.arange(length, dtype=torch.float32) / 10_000.0 ** (i / half)
        cos, sin = torch.cos(angle), torch.sin(angle)
        turned[..., i] = x[..., i] * cos - x[..., i + half] * sin
        turned[..., i + half] = x[..., i + half] * cos + x[..., i] * sin
    return turned
