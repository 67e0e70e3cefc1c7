import numpy as np
import pytest
from scored_examples import MASKED, encoder_of
from toy_batches import compiled_once

from biofm_jax.data.structures import read_chains
from biofm_jax.errors import UserError
from biofm_jax.evaluate.contact_maps import contact_result
from biofm_jax.evaluate.metrics_retrieval import contact_precision
from biofm_jax.interpret.contacts import predict_contacts


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def chains(biofm_data):
    """The real chains of at most 190 residues: 20 to fit and some to test."""
    chains = read_chains(biofm_data / "compbio/pdb_chains")
    return [chain for chain in chains if len(chain.sequence) <= 190]


def test_precision_on_chains_of_other_clusters(chains):
    encoder = encoder_of(MASKED, max_tokens=192)
    result = contact_result(encoder, chains)
    clusters = {chain.name: chain.cluster for chain in chains}
    trained, tested = ({clusters[n] for n in names} for names in (result.trained, result.tested))
    assert len(result.trained) == 20 and result.tested and not trained & tested
    kept = [chain for chain in chains if chain.name in result.tested]
    maps = predict_contacts(encoder, result.head, [chain.sequence for chain in kept])
    truth = [chain.contacts() for chain in kept]
    assert result.precision["P@L"] == pytest.approx(contact_precision(truth, maps).mean())
    best = contact_precision(truth, maps, per_length=0.2).mean()
    assert result.precision["P@L/5"] == pytest.approx(best)
    density = [np.nanmean(each[np.triu_indices(len(each), 24)]) for each in truth]
    assert result.random == pytest.approx(np.mean(density))
    again = contact_result(encoder, chains, result.head)
    assert again.precision == result.precision and not again.trained


def test_rows_that_are_too_short_say_so(chains):
    with pytest.raises(UserError, match="the rows of toy hold 64"):
        contact_result(encoder_of(MASKED), chains)


def test_too_few_chains_say_so(chains):
    with pytest.raises(UserError, match=r"9 of 9 chains train and 0 test: 20 are wanted"):
        contact_result(encoder_of(MASKED), [c for c in chains if c.name[0] != "d"][:9])
