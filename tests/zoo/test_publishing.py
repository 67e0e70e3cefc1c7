"""`biofm import` and `biofm export`, as typed."""

import json
from pathlib import Path

import numpy as np
import pytest
import transformers
from published_examples import ESM_CONFIG, save_published, tensors_of
from safetensors.numpy import save_file

from biofm_jax.cli import main
from biofm_jax.experiment import load_encoder
from biofm_jax.publishing import Import, import_model
from biofm_jax.zoo.store import load_stored


@pytest.fixture
def published(tmp_path):
    """An ESM-like model, with a contact head and a table that are kept aside."""
    aside = {"esm.contact_head.regression.weight": np.ones((1, 4), np.float32)}
    return save_published(tmp_path / "published", "esm", tensors_of("esm") | aside)


def test_there_and_back_is_the_same_to_the_byte(published, tmp_path, capsys):
    assert main(["import", "esm", str(published), str(tmp_path / "model"), "--json", "True",
                 "--modality", "protein"]) == 0  # fmt: skip
    (row,) = json.loads(capsys.readouterr().out)
    assert row["left out"] == "esm.contact_head.regression.weight"
    assert row["tensors"] == len(tensors_of("esm"))
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "again")]) == 0
    assert {p.name for p in (tmp_path / "again").iterdir()} == {p.name for p in published.iterdir()}
    for path in published.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_shards_come_back_as_they_were(tmp_path):
    model = transformers.EsmForMaskedLM(transformers.EsmConfig(**ESM_CONFIG)).half()
    model.save_pretrained(tmp_path / "published", max_shard_size="8KB")
    assert len(list((tmp_path / "published").glob("*.safetensors"))) > 1
    assert main(["import", "esm", str(tmp_path / "published"), str(tmp_path / "model"),
                 "--modality", "protein"]) == 0  # fmt: skip
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "again")]) == 0
    for path in (tmp_path / "published").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_file_without_metadata_stays_without(published, tmp_path):
    save_file(tensors_of("esm"), published / "model.safetensors")
    main(["import", "esm", str(published), str(tmp_path / "model"), "--modality", "protein"])
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "not" / "yet" / "there")]) == 0
    again = tmp_path / "not" / "yet" / "there" / "model.safetensors"
    assert again.read_bytes() == (published / "model.safetensors").read_bytes()


def test_torch_files_come_back_as_safetensors_of_the_same_names(published, tmp_path):
    import torch
    from safetensors.numpy import load_file

    (published / "model.safetensors").unlink()
    tensors = tensors_of("esm")
    names, files = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        files |= dict.fromkeys(part, file)
        torch.save({n: torch.from_numpy(tensors[n]).half() for n in part}, published / file)
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (published / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    main(["import", "esm", str(published), str(tmp_path / "model"), "--modality", "protein"])
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "again")]) == 0
    found = {}
    for number in (1, 2):
        shard = load_file(tmp_path / "again" / f"model-{number:05}-of-00002.safetensors")
        assert not shard.keys() & found.keys()
        found |= shard
    assert found.keys() == tensors.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, tensors[name].astype(np.float16))
    index = json.loads((tmp_path / "again" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == tensors.keys()


def test_float64_is_told_to_be_rounded(published, tmp_path, capsys):
    wide = {name: array.astype(np.float64) for name, array in tensors_of("esm").items()}
    save_file(wide, published / "model.safetensors")
    row = import_model(Import("esm", published, tmp_path / "model", modality="protein"))
    assert row["rounded"] == f"{len(wide)} float64 tensors, to float32"


def test_an_import_embeds_and_its_mean_leaves_specials_out(published, tmp_path):
    main(["import", "esm", str(published), str(tmp_path / "model"), "--modality", "protein"])
    encoder = load_encoder(str(tmp_path / "model"))
    assert encoder.spec.special == (0, 1, 2, 3, 31, 32)
    vectors = encoder.features(0)(["MKTAYIAKQR", "MKT"])
    assert vectors.shape == (2, 16) and np.isfinite(vectors).all()
    record = load_stored(tmp_path / "model").record
    assert list(record["sha256"]) == ["model.safetensors"]


def test_what_was_trained_here_loads_elsewhere(published, tmp_path):
    main(["import", "esm", str(published), str(tmp_path / "model"), "--modality", "protein"])
    encoder = load_encoder(str(tmp_path / "model"))
    from biofm_jax.parity.measures import relative_error
    from biofm_jax.parity.rows import padded_batch
    from biofm_jax.zoo.exporting import export_params
    from biofm_jax.zoo.registry import FAMILIES

    export_params(encoder.params, FAMILIES["esm"], encoder.spec, tmp_path / "out", lambda n: None)
    theirs = transformers.EsmForMaskedLM.from_pretrained(tmp_path / "out").eval()
    tokens = np.array([[0, 5, 9, 32, 7, 2]], np.int32)
    import torch

    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens.astype(np.int64))).logits
    batch = padded_batch(tokens)
    got = encoder.spec.build().apply(encoder.params, batch).logits
    assert relative_error(got, expected) < 1e-5


def refused(capsys, *arguments) -> str:
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_a_lost_head_is_seen_where_the_configuration_names_one(tmp_path, capsys):
    body = {n: a for n, a in tensors_of("esm").items() if not n.startswith("lm_head.")}
    said = {"architectures": ["EsmForMaskedLM"]}
    folder = save_published(tmp_path / "lost", "esm", body, **said)
    said = refused(capsys, "import", "esm", folder, tmp_path / "model")
    assert "no tensor of its head (lm_head.*)" in said
    folder = save_published(tmp_path / "body", "esm", body, architectures=["EsmModel"])
    row = import_model(Import("esm", folder, tmp_path / "model", modality="protein"))
    assert row["language head"] == "none in the checkpoint"


def test_wrong_names_sizes_and_families(published, tmp_path, capsys):
    out = tmp_path / "model"
    assert "esm2_8m" in refused(capsys, "import", "esm2_8", published, out)
    said = refused(capsys, "import", "esm2_8m", published, out)
    assert "layers: 6 and 2" in said and "width: 320 and 16" in said
    assert "'esm', and bert is bert" in refused(capsys, "import", "bert", published, out)
    (published / "config.json").unlink()
    assert "needs its config.json" in refused(capsys, "import", "esm", published, out)
    assert "missing" in refused(capsys, "import", "esm2_8m", published, out)
    assert not out.exists() and not list(tmp_path.glob(".model*"))


@pytest.mark.parametrize("content, said", [("{", "no configuration"), ("[]", "no JSON object"),
                                           ('{"model_type": "esm"}', "has no field")])  # fmt: skip
def test_a_configuration_that_is_none(published, tmp_path, capsys, content, said):
    (published / "config.json").write_text(content)
    assert said in refused(capsys, "import", "esm", published, tmp_path / "model")


def test_nothing_is_overwritten_and_a_dry_run_writes_nothing(published, tmp_path, capsys):
    out = tmp_path / "model"
    options = ["import", "esm", str(published), str(out), "--modality", "protein"]
    assert main([*options, "--dry-run", "True"]) == 0
    assert not out.exists()
    assert main(options) == 0
    assert "exists" in refused(capsys, *options)
    (tmp_path / "full").mkdir()
    assert "exists" in refused(capsys, "export", out, tmp_path / "full")
    assert "--family" in refused(capsys, "export", tmp_path / "full", tmp_path / "other")


def test_what_cannot_be_made_is_told(published, tmp_path, capsys):
    out = tmp_path / "model"
    assert "known are cell," in refused(
        capsys, "import", "esm", published, out, "--modality", "proten"
    )
    (tmp_path / "file").write_text("")
    main(["import", "esm", str(published), str(out), "--modality", "protein"])
    assert "cannot be written" in refused(capsys, "export", out, tmp_path / "file" / "out")
    name = f"random:{Path(__file__).parents[2]}/experiments/computational_biology/esm2_masked.py"
    said = refused(capsys, "export", f"{name}:smoke", tmp_path / "gpt2", "--family", "gpt2")
    assert "gpt2 cannot hold" in said


def test_a_tokenizer_of_another_model(published, tmp_path, capsys):
    (published / "vocab.txt").write_text(
        (published / "vocab.txt").read_text() + "\n" + "\n".join(f"X{i}" for i in range(9))
    )
    said = refused(capsys, "import", "esm", published, tmp_path / "model", "--modality", "protein")
    assert "do not belong together" in said


def test_without_a_tokenizer_the_model_says_so(published, tmp_path, capsys):
    (published / "vocab.txt").unlink()
    row = import_model(Import("esm", published, tmp_path / "model", modality="genome"))
    assert "--tokenizer" in row["tokenizer"]
    said = refused(capsys, "evaluate", tmp_path / "model", "--task", "dms_blat")
    assert "--tokenizer" in said


def test_a_damaged_import_is_told(published, tmp_path, capsys):
    out = tmp_path / "model"
    main(["import", "esm", str(published), str(out), "--modality", "protein"])
    capsys.readouterr()
    for file in (out / "params").rglob("*"):
        if file.is_file() and file.stat().st_size > 4000:
            file.write_bytes(file.read_bytes()[:100])
    said = refused(capsys, "export", out, tmp_path / "again")
    assert "import the model again" in said
    (out / "model.json").write_text("{}")
    assert "no record" in refused(capsys, "export", out, tmp_path / "again")
