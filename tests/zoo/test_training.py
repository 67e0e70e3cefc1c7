"""Every family learns: a shrunk published architecture on real data, whose loss falls."""

import csv
import dataclasses
import gzip
import json
import math

import jax
import pytest

from biofm_jax.data.genome import GenomeData
from biofm_jax.data.molecule import MoleculeData
from biofm_jax.data.molecule_conformer import ConformerData
from biofm_jax.data.notes import NotesData
from biofm_jax.data.protein import ProteinData
from biofm_jax.experiment import Experiment, train
from biofm_jax.models.embedding import TokenDropout
from biofm_jax.models.encoder_decoder import EncoderDecoderSpec
from biofm_jax.models.heads import LanguageHead
from biofm_jax.models.pair_transformer import PairTransformerSpec
from biofm_jax.models.positions import Learned
from biofm_jax.objectives.denoising import Denoising
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.objectives.next_token import NextToken
from biofm_jax.objectives.unimol import UniMol
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.mesh import MeshSpec
from biofm_jax.train.optimizer import OptimizerSpec
from biofm_jax.zoo.registry import FAMILIES, PUBLISHED

STEPS, TOKENS, ATOMS = 40, 32, 64
KINDS = {
    "protein": ProteinData, "molecule": MoleculeData, "genome": GenomeData, "notes": NotesData,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(biofm_data, tmp_path_factory):
    """A few hundred real records of each modality."""
    folder = tmp_path_factory.mktemp("records")
    proteins = folder / "proteins.fasta"
    with gzip.open(biofm_data / "compbio/deeploc_small/deeploc_our_val_set.fasta.gz", "rt") as file:
        proteins.write_text("".join(line for _, line in zip(range(2000), file, strict=False)))
    genome = folder / "genome.fasta"
    path = biofm_data / "compbio/genomes/rokyta2006_phix174like_genomes.fasta.gz"
    with gzip.open(path, "rt") as file:
        genome.write_text(file.read())
    notes = folder / "notes.jsonl"
    with gzip.open(biofm_data / "clinical/pubmedqa/ori_pqal.json.gz", "rt") as file:
        found = list(json.load(file).items())[:300]
    notes.write_text("".join(
        json.dumps({"id": name, "text": each["LONG_ANSWER"]}) + "\n" for name, each in found
    ))  # fmt: skip
    smiles = folder / "molecules.csv"
    with gzip.open(biofm_data / "drug/smiles_pretrain/chembl_sparse_ts_valid.csv.gz", "rt") as file:
        rows = [row for _, row in zip(range(601), csv.reader(file), strict=False)]
    at = [name.lower() for name in rows[0]].index("smiles")
    smiles.write_text("smiles\n" + "".join(row[at] + "\n" for row in rows[1:]))
    return {"protein": proteins, "genome": genome, "notes": notes, "molecule": smiles}


def shrunk(spec, vocabulary):
    """The architecture with fewer of everything."""
    if isinstance(spec, EncoderDecoderSpec):
        return EncoderDecoderSpec(*(shrunk(s, vocabulary) for s in (spec.encoder, spec.decoder)))
    if isinstance(spec, PairTransformerSpec):
        sizes = dict(layers=2, width=64, heads=4, feedforward=128, kernels=16)
        return dataclasses.replace(spec, vocabulary=vocabulary.size, **sizes)
    small = dict(
        vocabulary=vocabulary.size, layers=2, width=64, heads=4, kv_heads=None, head_width=None,
        feedforward=128, special=(),
    )  # fmt: skip
    if spec.key_heads < spec.heads:
        small["kv_heads"] = 2
    if spec.local is not None:
        small["layers"] = spec.local.every + 1
    if spec.token_dropout is not None:
        small["token_dropout"] = TokenDropout(vocabulary.mask)
    if isinstance(spec.positions, Learned):
        small["positions"] = dataclasses.replace(spec.positions, maximum=TOKENS)
    if spec.embedding_scale != 1.0:
        small["embedding_scale"] = 8.0
    if getattr(spec.head, "scale", 1.0) != 1.0:
        small["head"] = dataclasses.replace(spec.head, scale=1 / 8)
    return dataclasses.replace(spec, **small)


def data_of(spec, modality, files, folder):
    """Records as the model reads them; of molecules in space a few, for each is embedded."""
    path, shape = files[modality], dict(segments=8, holdout=0.0)
    if not isinstance(spec, PairTransformerSpec):
        return KINDS[modality](path=str(path), max_tokens=TOKENS, **shape)
    some = folder / "some.csv"
    lines = [line for line in path.read_text().splitlines(keepends=True) if len(line) < 60]
    some.write_text("".join(lines[:60]))
    return ConformerData(path=str(some), max_tokens=ATOMS, tolerance=0.1, **shape)


def objective_of(spec):
    if isinstance(spec, EncoderDecoderSpec):
        return Denoising()
    if isinstance(spec, PairTransformerSpec):
        return UniMol()
    return NextToken() if spec.causal else MaskedLM()


def model_of(family):
    """A published model of the family whose records are at hand."""
    of_family = [m for m in PUBLISHED.values() if m.family is family and m.modality in KINDS]
    return of_family[0] if of_family else None


@pytest.fixture
def one_device(monkeypatch):
    """Runs on the first device: tests of meshes are elsewhere, and eight take a third longer."""
    first, build = jax.devices()[:1], MeshSpec.build
    monkeypatch.setattr(MeshSpec, "build", lambda spec, devices=first: build(spec, devices))
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("name", [n for n, family in FAMILIES.items() if model_of(family)])
def test_the_loss_falls(name, files, tmp_path):
    model = model_of(FAMILIES[name])
    data = data_of(model.spec, model.modality, files, tmp_path)
    spec = shrunk(model.spec, data.tokenizer().vocabulary)
    if spec.head is None:  # an encoder that was published without
        spec = dataclasses.replace(spec, head=LanguageHead())
    experiment = Experiment(
        model=spec,
        data=data,
        objective=objective_of(spec),
        optimizer=OptimizerSpec(learning_rate=3e-3, warmup=5),
        loop=LoopSpec(steps=STEPS, batch_size=8, log_every=1, checkpoint_every=STEPS),
    )
    losses = [row["loss"] for row in train(experiment, tmp_path / "run", show=False).rows]
    assert len(losses) == STEPS and all(map(math.isfinite, losses))
    first, last = (sum(part) / 5 for part in (losses[:5], losses[-5:]))
    print(f"{name}: {model.name}, {model.modality}: {first:.3f} -> {last:.3f}")
    # Noise of a batch is a few hundredths of a nat.
    assert last < first - 0.2
