"""Layouts of the authors' own files, as typed: of MoLFormer, MolGPT, ETHOS, Biohub's ESM C."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from biofm_jax.cli import main
from biofm_jax.parity.references import randomised
from biofm_jax.parity.written_models import written_references
from biofm_jax.zoo.store import load_stored
from biofm_jax.zoo.weights import open_weights

BUILD = {each.family.name: each.build for each in written_references()}
# Family as typed -> where its layout is found.
NAMES = {"molformer": "molformer", "molgpt": "molgpt", "ethos": "ethos", "esmc": "esmc-biohub"}


def command(capsys, *arguments):
    code = main([*map(str, arguments), "--json", "True"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if code == 0 else " ".join(err.split())


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name, capsys, tmp_path):
    BUILD[NAMES[name]]().save_pretrained(tmp_path / "published")
    model, again = tmp_path / "model", tmp_path / "again"
    modality = {"ethos": "ehr", "esmc": "protein"}.get(name, "molecule")
    code, rows = command(
        capsys, "import", name, tmp_path / "published", model, "--modality", modality
    )
    assert code == 0, rows
    assert load_stored(model).family.name == NAMES[name]
    assert command(capsys, "export", model, again)[0] == 0
    published, exported = (
        open_weights(tmp_path / "published"),
        load_file(again / "model.safetensors"),
    )
    assert exported.keys() == published.tensors.keys()
    for tensor, array in exported.items():
        np.testing.assert_array_equal(array, published.read(tensor))
    configs = [(folder / "config.json").read_text() for folder in (tmp_path / "published", again)]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("part, condition", [
    ("prop_nn.weight", "properties"), ("lstm.weight_ih_l0", "a scaffold"),
])  # fmt: skip
def test_a_molgpt_of_conditions_is_refused(part, condition, capsys, tmp_path):
    folder = tmp_path / "published"
    BUILD["molgpt"]().save_pretrained(folder)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(state | {part: torch.ones(48, 1)}, folder / "pytorch_model.bin")
    code, err = command(capsys, "import", "molgpt", folder, tmp_path / "model")
    assert code == 2 and f"writes molecules to {condition}" in err


def test_a_molecule_is_of_the_second_published_type(tmp_path):
    model = BUILD["molgpt"]()
    tokens = torch.tensor([[6, 7, 8]])
    with torch.no_grad():
        before = model(tokens, None).logits
        model.type_emb.weight[0] += 1
        assert torch.equal(model(tokens, None).logits, before)
        model.type_emb.weight[1] += 1
        assert not torch.equal(model(tokens, None).logits, before)


def test_the_two_gpt2_layouts_are_not_taken_for_each_other(capsys, tmp_path):
    """Their names are the same, and the products lie the other way round."""
    import transformers

    sizes = dict(vocab_size=47, n_layer=2, n_embd=48, n_head=2, n_positions=64)
    made = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    randomised(made).save_pretrained(tmp_path / "gpt2")
    (tmp_path / "gpt2" / "config.json").write_text(
        json.dumps(sizes | {"model_type": "ethos", "bias": True})
    )
    code, err = command(capsys, "import", "ethos", tmp_path / "gpt2", tmp_path / "model")
    assert code == 2 and "c_attn.weight has shape (48, 144), not (144, 48)" in err


def test_a_folder_that_cannot_be_made_is_found_before_the_weights_are_read(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "model"
    code, err = command(capsys, "import", "esm", tmp_path / "no weights here", out)
    assert code == 2 and f"{out} cannot be written: {tmp_path / 'file'} is no folder" in err
