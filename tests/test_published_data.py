"""A published tokenizer's folder as part of an experiment and of a finished run."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from published_files import BERT_SPECIALS, ESM2, PROTBERT, letters, write

from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.notes import NotesData
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.experiment import Experiment, load_encoder, train
from biofm_jax.models.transformer import TransformerSpec
from biofm_jax.objectives.masked import MaskedLM
from biofm_jax.train.loop import LoopSpec
from biofm_jax.train.optimizer import OptimizerSpec

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "published", vocab__txt="\n".join(PROTBERT))


def experiment(folder, fasta="", vocabulary=30) -> Experiment:
    return Experiment(
        model=TransformerSpec(vocabulary=vocabulary, layers=1, width=16, heads=2),
        data=ProteinData(path=str(fasta), max_tokens=32, tokenizer_path=str(folder)),
        objective=MaskedLM(),
        optimizer=OptimizerSpec(),
        loop=LoopSpec(steps=1, batch_size=8, eval_every=0),
    )


def test_an_embedding_may_have_more_rows_than_tokens_but_not_fewer(folder):
    for rows in (30, 64):
        one = experiment(folder, vocabulary=rows)
        one.check(devices=8)
        assert Experiment.from_json(json.loads(json.dumps(one.to_json()))) == one
    with pytest.raises(UserError, match=r"model\.vocabulary is 29"):
        experiment(folder, vocabulary=29).check(devices=8)
    with pytest.raises(UserError, match=r"model\.vocabulary is 64"):  # nothing published here
        dataclasses.replace(experiment(folder, vocabulary=64), data=ProteinData()).check(devices=8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["protbert", "esm", "wordpiece"])
def test_embeddings_do_not_depend_on_neighbours(tmp_path, folder, kind):
    if kind == "wordpiece":
        words = [f"w{i}" for i in range(30)]
        folder = write(tmp_path / "w", vocab__txt="\n".join(BERT_SPECIALS + words))
        data = NotesData(max_tokens=64, tokenizer_path=str(folder))
        texts = [" ".join(f"w{ord(c) % 30}" for c in text) for text in letters(RESIDUES, 5, 50)[1:]]
    else:
        if kind == "esm":
            folder = write(tmp_path / "e", vocab__txt="\n".join(ESM2))
        data = ProteinData(max_tokens=64, tokenizer_path=str(folder))
        texts = letters(RESIDUES, 5, 50)[1:]
    size = data.tokenizer().vocabulary.size
    model = TransformerSpec(vocabulary=size, layers=2, width=32, heads=4)
    embed = Encoder("tiny", model, data).features(seed=0)
    alone = np.concatenate([embed([text]) for text in texts])
    np.testing.assert_allclose(embed(texts), alone, atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


@pytest.mark.slow
def test_a_run_finds_the_tokenizer_in_its_own_folder(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))
    fasta = tmp_path / "x.fasta"
    proteins = letters(RESIDUES, 40, 30)[1:]
    fasta.write_text("".join(f">p{i}\n{text}\n" for i, text in enumerate(proteins)))
    run = tmp_path / "run"
    train(experiment(folder, fasta), run, show=False)
    shutil.move(folder, run / "tokenizer")
    with pytest.raises(UserError, match="no such folder"):
        load_encoder(str(run))
    path = run / "experiment.json"
    saved = json.loads(path.read_text())
    saved["data"]["tokenizer_path"] = "tokenizer"
    path.write_text(json.dumps(saved))
    encoder = load_encoder(str(run))
    ids = encoder.tokenize(["MKU"])[0].tolist()
    assert [PROTBERT[i] for i in ids] == ["[CLS]", "M", "K", "X", "[SEP]"]
    monkeypatch.chdir(tmp_path)
    assert load_encoder("run").tokenize(["MK"])[0].tolist()[0] == 2
