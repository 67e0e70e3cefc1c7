"""Contact probabilities against transformers' `EsmForMaskedLM.predict_contacts`."""

import json

import jax
import numpy as np
import pytest
import torch
from transformers import EsmConfig, EsmForMaskedLM

from biofm_jax import cli
from biofm_jax.adapt.encoder import Encoder
from biofm_jax.data.batch import Batch
from biofm_jax.data.protein import ProteinData
from biofm_jax.errors import UserError
from biofm_jax.experiment import load_encoder
from biofm_jax.interpret.attention import coupling
from biofm_jax.interpret.contacts import (
    ContactHead,
    contact_probabilities,
    fit_contact_head,
    pair_features,
    predict_contacts,
    published_contact_head,
)
from biofm_jax.interpret.records import read_interpretations
from biofm_jax.zoo.esm2 import from_transformers
from biofm_jax.zoo.store import load_stored

CLS, PAD, EOS, MASK = 0, 1, 2, 32
LAYERS, LENGTHS = 3, (29, 9, 18)  # the row with most padding between two others
SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"


def reference(heads, width):
    torch.manual_seed(heads)
    config = EsmConfig(
        vocab_size=33, hidden_size=width, num_hidden_layers=LAYERS, num_attention_heads=heads,
        intermediate_size=80, position_embedding_type="rotary", token_dropout=True,
        emb_layer_norm_before=False, mask_token_id=MASK, pad_token_id=PAD, eos_token_id=EOS,
        layer_norm_eps=1e-5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )  # fmt: skip
    model = EsmForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            offset = float(parameter.ndim == 1 and parameter.numel() > 1 and parameter.mean() > 0.5)
            spread = 0.1 if parameter.ndim == 1 else 2.0 * parameter.shape[-1] ** -0.5
            parameter.copy_(offset + spread * torch.randn_like(parameter))
        # Weights that make probabilities differ, not all near a half.
        model.esm.contact_head.regression.weight.mul_(8.0)
        model.esm.contact_head.regression.bias.fill_(-0.7)
    return model


def token_rows():
    rng = np.random.default_rng(0)
    tokens = np.full((len(LENGTHS), max(LENGTHS)), PAD, np.int32)
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[:length] = rng.integers(4, 24, length)
        row[0], row[length - 1] = CLS, EOS
        row[3] = MASK
    return tokens


def theirs(model, tokens):
    with torch.no_grad():
        ids = torch.from_numpy(tokens.astype(np.int64))
        return model.predict_contacts(ids, (ids != PAD).long()).numpy()


@pytest.fixture(scope="module", params=[(4, 64), (2, 48)], ids=["heads of 16", "heads of 24"])
def peer(request):
    return reference(*request.param)


@pytest.fixture(scope="module")
def imported(peer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("esm")
    peer.save_pretrained(folder / "published")
    arguments = [str(folder / "published"), str(folder / "model"), "--modality", "protein"]
    assert cli.main(["import", "esm", *arguments, "--json", "True"]) == 0
    return folder / "model"


def head_of(folder):
    return published_contact_head(load_stored(folder).left_out())


def test_equal_to_the_published_head_with_padding(peer, imported):
    stored, tokens = load_stored(imported), token_rows()
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    batch = Batch(tokens, (tokens != PAD).astype(np.int32), positions,
                  np.arange(len(tokens), dtype=np.int32)[:, None])  # fmt: skip
    model, head = stored.spec.build(), head_of(imported)
    run = jax.jit(lambda p, b: model.apply(p, b, collect=("attentions",)).attentions)
    residues = ~np.isin(tokens, (CLS, PAD, EOS))
    ours = contact_probabilities(
        run(stored.params(), batch), residues, head.weights, np.float32(head.bias)
    )
    want = theirs(peer, tokens)
    assert ours.shape == want.shape == (3, 27, 27) and want.std() > 0.05
    np.testing.assert_allclose(np.asarray(ours), want, rtol=1e-5, atol=1e-6)


def test_a_text_alone_gets_the_published_map(peer, imported):
    encoder = load_encoder(str(imported))
    (found,) = predict_contacts(encoder, head_of(imported), [SEQUENCE])
    (tokens,) = encoder.tokenize([SEQUENCE])
    want = theirs(peer, tokens[None])[0]
    assert found.shape == (len(SEQUENCE), len(SEQUENCE))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, found.T, rtol=1e-5)


def test_interpret_shows_the_published_probabilities(imported, tmp_path, capsys):
    arguments = ["--text", SEQUENCE, "--show", "contacts", "--out", str(tmp_path)]
    assert cli.main(["interpret", str(imported), *arguments, "--json", "True"]) == 0
    assert [row["kind"] for row in json.loads(capsys.readouterr().out)] == ["contacts"]
    ((found,), problems) = read_interpretations([tmp_path])
    assert not problems and found.unit == "probability"
    assert "the published regression" in found.caption
    (want,) = predict_contacts(load_encoder(str(imported)), head_of(imported), [SEQUENCE])
    np.testing.assert_allclose(found.arrays["contacts"], want, rtol=1e-6)
    assert "".join(found.arrays["tokens"]) == SEQUENCE


@pytest.mark.slow
def test_interpret_measures_a_head_on_chains(imported, tmp_path, capsys, biofm_data):
    chains = str(biofm_data / "compbio/pdb_chains")
    options = ["--text", SEQUENCE, "--show", "contacts", "--out", str(tmp_path)]
    assert cli.main(["interpret", str(imported), *options, "--chains", chains]) == 0
    ((found,), _) = read_interpretations([tmp_path])
    assert "the published regression" in found.caption
    assert "Precision on 50 other chains, pairs 24 residues apart: P@L 0." in found.caption
    assert "a random order 0.021" in found.caption
    assert cli.main(["interpret", str(imported), *options, "--chains", str(tmp_path)]) == 2
    assert "index.csv does not exist" in capsys.readouterr().err.replace("\n", "")


def test_a_trained_run_has_no_published_head(peer):
    assert published_contact_head(None) is None


@pytest.fixture(scope="module")
def encoder():
    peer = reference(4, 64)
    state = {name: value.numpy() for name, value in peer.state_dict().items()}
    from biofm_jax.zoo.esm import spec_of

    spec = spec_of(peer.config.to_dict())
    return Encoder("toy", spec, ProteinData(max_tokens=128), from_transformers(state, spec))


def test_features_are_the_couplings_of_the_residues(encoder):
    attentions = np.random.default_rng(0).random((2, 1, 3, 9, 9)).astype(np.float32)
    residues = np.array([[False] + [True] * 5 + [False] * 3])
    found = np.asarray(pair_features(attentions, residues))
    want = coupling(attentions[:, 0, :, 1:6, 1:6].astype(np.float64))
    np.testing.assert_allclose(found[:, 0, :, :5, :5], want, atol=1e-6)
    assert not found[..., 5:, :].any() and not found[..., 5:].any()


def test_a_head_of_another_model_is_refused(encoder):
    with pytest.raises(UserError, match="5 weights for 3 layers of 4 heads"):
        predict_contacts(encoder, ContactHead(np.zeros(5, np.float32), 0.0), [SEQUENCE])


def test_fitting_finds_the_heads_that_tell_contacts(encoder):
    """Contacts that one head alone decides: the fitted regression ranks them first."""
    from biofm_jax.evaluate.metrics_retrieval import contact_precision

    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in (60, 45, 60, 52)]
    one = np.zeros(12, np.float32)
    one[7] = 1.0
    truth = []
    for found in predict_contacts(encoder, ContactHead(one, 0.0), texts):
        pairs = np.triu_indices(len(found), 6)
        truth.append((found > np.quantile(found[pairs], 0.9)).astype(float))
    truth[0][3, 20] = np.nan
    head = fit_contact_head(encoder, texts[:3], truth[:3], strength=1e4)
    assert np.argmax(head.weights) == 7 and "3 proteins" in head.source
    maps = predict_contacts(encoder, head, texts[3:])
    options = dict(per_length=0.5, separation=6)
    assert contact_precision(truth[3:], maps, **options)[0] > 0.9
    flat = [np.zeros_like(maps[0])]
    assert contact_precision(truth[3:], flat, **options)[0] < 0.2
    weak = fit_contact_head(encoder, texts[:3], truth[:3], strength=1e-6)
    assert not weak.weights.any()  # the penalty is L1: it sets weights to zero
    with pytest.raises(UserError, match="no contacts 6 residues apart"):
        fit_contact_head(encoder, texts[:1], [np.zeros((60, 60))])
    with pytest.raises(UserError, match="contacts for 60 residues"):
        fit_contact_head(encoder, texts[:1], [np.zeros((59, 59))])
