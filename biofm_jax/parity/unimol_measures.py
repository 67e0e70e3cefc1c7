"""Our model of pairs with imported weights against the written reference."""

import contextlib
import dataclasses
import io
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from biofm_jax.data.batch import Batch
from biofm_jax.data.conformers import ConformerExample
from biofm_jax.data.in_memory import PackedExamples, pack_examples
from biofm_jax.data.molecule_conformer import ConformerData
from biofm_jax.parity.compared import Compared
from biofm_jax.parity.ledger import round_trip_failures, strictness_failures
from biofm_jax.parity.measures import gradient_error, relative_error, worst
from biofm_jax.parity.references import randomised
from biofm_jax.zoo.exporting import published_tensors
from biofm_jax.zoo.importing import plan_import, read_params
from biofm_jax.zoo.unimol import UNIMOL
from biofm_jax.zoo.weights import open_weights

SIZES = (11, 4, 7)  # atoms, the molecule with most padding between two others
LAYERS, FEEDFORWARD, KERNELS = 3, 88, 20
OUTPUTS = ("logits", "coordinates", "distances")


def molecules(vocabulary) -> list[ConformerExample]:
    """Random atoms, some of them hidden, at random places."""
    rng, made = np.random.default_rng(0), []
    for size in SIZES:
        atoms = rng.choice(vocabulary.regular, size)
        atoms[rng.random(size) < 0.2] = vocabulary.mask
        places = np.zeros((size + 2, 3), np.float32)
        places[1:-1] = 2.0 * rng.normal(size=(size, 3))
        made.append(ConformerExample(np.array([vocabulary.cls, *atoms, vocabulary.eos]), places))
    return made


def measure_unimol(width: int, heads: int) -> tuple[dict[str, float], int]:
    """All figures of one small random model; its reference saved, imported, run, exported."""
    from biofm_jax.parity.unimol import UniMol

    vocabulary = ConformerData().vocabulary
    reference = UniMol(vocabulary.size, LAYERS, width, heads, FEEDFORWARD, KERNELS)
    reference = _widened(randomised(reference))
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        reference.save_pretrained(Path(name))
        weights = open_weights(Path(name) / "mol_pre.pt")
        plan = plan_import(weights, UNIMOL, UNIMOL.spec_of(reference.config))
        params = read_params(weights, plan)
        figures = {
            "round trip": round_trip_failures(weights, plan, params),
            "strict": strictness_failures(weights, plan),
        }
    examples, model = molecules(vocabulary), plan.spec.build()
    figures |= _against(model, params, reference, examples, vocabulary)
    figures |= _invariances(model, params, examples, vocabulary)
    return figures, sum(leaf.size for leaf in jax.tree.leaves(params))


def _widened(reference: Any) -> Any:
    """Kernels as wide as those of a model in use: their widths are no small random numbers."""
    import torch

    with torch.no_grad():
        reference.gbf.stds.weight.abs_().add_(0.5)
        reference.gbf.means.weight.abs_().add_(1.0)
        reference.gbf.mul.weight.add_(1.0)
    return reference


@dataclasses.dataclass(frozen=True)
class Rows:
    """Molecules in rows of one batch.

    Attributes:
        batch: the one batch.
        packed: where each molecule went.
    """

    batch: Batch
    packed: PackedExamples

    @classmethod
    def of(cls, examples, vocabulary, rows: int, tokens: int, slots: int = 1) -> "Rows":
        """So many rows of so many tokens, with at most `slots` molecules each."""
        options = {"max_tokens": tokens, "segments": slots, "batch_size": rows}
        packed = pack_examples(examples, vocabulary, **options)
        (batch,) = packed.batches
        return cls(batch, packed)

    def of_molecule(self, number: int, array: Any, pairs: bool = False) -> np.ndarray:
        """The part of an output (b, t, ...) that belongs to a molecule; of `pairs` (b, t, t)."""
        row = self.packed.row[number]
        mine = self.batch.segment_ids[row] == self.packed.segment[number] + 1
        part = np.asarray(array)[row][mine]
        return part[:, mine] if pairs else part

    def outputs(self, number: int, out: Any) -> list[np.ndarray]:
        """What a model says of a molecule, in the order of `OUTPUTS`."""
        return [
            self.of_molecule(number, getattr(out, name), pairs=name == "distances")
            for name in OUTPUTS
        ]


def _against(model, params, reference: Any, examples, vocabulary) -> dict[str, float]:
    import torch

    rows = Rows.of(examples, vocabulary, len(examples), max(map(len, examples)) + 5)
    batch, rng = rows.batch, np.random.default_rng(1)
    sizes = {"logits": vocabulary.size, "coordinates": 3, "distances": batch.tokens.shape[1]}
    spread = {name: np.zeros((*batch.tokens.shape, n), np.float32) for name, n in sizes.items()}
    theirs, loss = [], 0.0
    reference.zero_grad()
    for example, row in zip(examples, rows.packed.row, strict=True):
        tokens = torch.from_numpy(example.ids.astype(np.int64))
        out = reference(tokens, torch.from_numpy(example.coordinates))
        theirs.append(out)
        for name in OUTPUTS:
            made = getattr(out, name)
            weight = rng.normal(size=made.shape).astype(np.float32)
            spread[name][row, : weight.shape[0], : weight.shape[1]] = weight
            loss = loss + (made * torch.from_numpy(weight)).sum()
    loss.backward()

    def ours(params):
        out = model.apply(params, batch, collect=("layers",))
        return sum(jnp.sum(getattr(out, name) * spread[name]) for name in OUTPUTS), out

    gradients, out = jax.jit(jax.grad(ours, has_aux=True))(params)
    outputs, hidden = [], []
    for number, other in enumerate(theirs):
        for mine, name in zip(rows.outputs(number, out), OUTPUTS, strict=True):
            outputs.append(relative_error(mine, getattr(other, name).detach()))
        states = [*np.asarray(out.layers)[:-1], np.asarray(out.hidden)]
        for mine, state in zip(states, other.hidden_states, strict=True):
            hidden.append(relative_error(rows.of_molecule(number, mine), state.detach()))
    wanted = {name: p.grad.numpy() for name, p in reference.named_parameters()}
    found = published_tensors(gradients, UNIMOL, model.spec)
    return {
        "logits": worst(outputs),
        "hidden": worst(hidden),
        "gradients": worst(gradient_error(g, wanted[name]) for name, g in found),
    }


def _invariances(model, params, examples, vocabulary) -> dict[str, float]:
    apply = jax.jit(model.apply)
    lengths = [len(example) for example in examples]
    together = Rows.of(examples, vocabulary, len(examples), max(lengths))
    in_one = Rows.of(examples, vocabulary, 1, sum(lengths) + 5, len(examples))
    batched, packed = apply(params, together.batch), apply(params, in_one.batch)
    errors = {"padding": 0.0, "batch": 0.0, "packed": 0.0}
    for number, example in enumerate(examples):
        single = Rows.of([example], vocabulary, 1, max(lengths))
        expected = single.outputs(0, apply(params, single.batch))
        others = {
            "batch": together.outputs(number, batched),
            "packed": in_one.outputs(number, packed),
        }
        if len(example) == min(lengths):  # the most padding; each length is compiled anew
            bare = Rows.of([example], vocabulary, 1, len(example))
            others["padding"] = bare.outputs(0, apply(params, bare.batch))
        for name, found in others.items():
            pairs = zip(found, expected, strict=True)
            errors[name] = worst((errors[name], *(relative_error(a, b) for a, b in pairs)))
    low = model.spec.replaced(dtype="bfloat16").build()
    rough = jax.jit(lambda p, b: low.apply(p, b).logits)(params, together.batch)
    real = together.batch.segment_ids > 0
    errors["bf16"] = relative_error(np.asarray(rough)[real], np.asarray(batched.logits)[real])
    return errors


def unimol_comparisons() -> list[Compared]:
    """Two head widths."""
    return [
        Compared(
            UNIMOL.name,
            f"{heads} heads of {width // heads}",
            UNIMOL.reference,
            lambda width=width, heads=heads: measure_unimol(width, heads),
        )
        for width, heads in ((64, 4), (48, 2))
    ]
