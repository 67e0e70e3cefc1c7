import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from biofm_jax.data.protein import ProteinData
from biofm_jax.data.token_store import TokenStore, open_store, text_hash
from biofm_jax.data.tokenizers import KmerTokenizer, esm2_tokenizer


def names(records):
    return [str(record) for record in records]


def test_store_is_written_once_and_mapped(tmp_path):
    calls = []

    def chunks():
        calls.append(1)
        yield [["MK"], ["MKT"]]
        yield [["A"]]

    for _ in range(2):
        store = open_store(tmp_path, esm2_tokenizer(), chunks, names)
    assert calls == [1]
    assert isinstance(store.ids, np.memmap) and store.ids.dtype == np.uint8
    np.testing.assert_array_equal(store.ids, [0, 20, 15, 2, 0, 20, 15, 11, 2, 0, 5, 2])
    np.testing.assert_array_equal(store.offsets, [0, 4, 9, 12])
    np.testing.assert_array_equal(store.hashes, [text_hash("MK"), text_hash("MKT"), text_hash("A")])
    assert len(store) == 3 and store.lengths().tolist() == [4, 5, 3]


def test_another_tokenizer_has_another_store(tmp_path):
    for tokenizer in (KmerTokenizer(3, 3), KmerTokenizer(3, 1)):
        open_store(tmp_path, tokenizer, lambda: [[["ACGTAC"]]], names)
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("tokens-")]) == 2


def test_killed_or_failed_writing_leaves_no_store(tmp_path):
    def broken():
        yield [["MK"]]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        open_store(tmp_path, esm2_tokenizer(), broken, names)
    assert list(tmp_path.iterdir()) == []
    code = (
        "import os, pathlib; from biofm_jax.data.token_store import open_store\n"
        "from biofm_jax.data.tokenizers import esm2_tokenizer\n"
        "def chunks():\n    yield [['MK']]\n    os._exit(9)\n"
        f"open_store(pathlib.Path({str(tmp_path)!r}), esm2_tokenizer(), chunks, None)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("tokens-")]
    assert len(open_store(tmp_path, esm2_tokenizer(), lambda: [[["MK"]]], names)) == 1


def test_hash_is_the_same_on_every_machine():
    # blake2b, 8 bytes, little endian; a change would move records across the split.
    assert text_hash("MKT") == 0xF5EB2044FE50966F


@pytest.fixture
def store():
    """10,000 records with random hashes."""
    rng = np.random.default_rng(0)
    plain = TokenStore.from_arrays([np.array([4])] * 10_000, esm2_tokenizer().vocabulary)
    hashes = rng.integers(0, 2**64, 10_000, np.uint64, endpoint=False)
    return dataclasses.replace(plain, hashes=hashes)


def test_split_shares_and_extremes(store):
    assert len(store.split(0.1, held=True)) == pytest.approx(1000, abs=120)
    assert len(store.split(0.0, held=True)) == 0
    # A larger share holds what a smaller one held.
    assert set(store.split(0.1, held=True)) < set(store.split(0.2, held=True))


def test_a_fraction_is_a_part_of_a_larger_one_and_never_held_out(store):
    held, rest = store.split(0.2, held=True), store.split(0.2, held=False)
    before = set()
    for fraction in (0.01, 0.1, 0.5, 1.0):
        used = store.split(0.2, held=False, fraction=fraction)
        assert len(used) == pytest.approx(8000 * fraction, rel=0.2)
        assert before < set(used) and not set(used) & set(held)
        np.testing.assert_array_equal(store.split(0.2, held=True, fraction=fraction), held)
        before = set(used)
    assert before == set(rest)


def test_store_of_a_prepared_folder_is_beside_the_records(fasta, tmp_path):
    data = ProteinData(path=str(fasta))
    data.prepare(tmp_path / "out")
    ProteinData(path=str(tmp_path / "out")).open()
    (place,) = (tmp_path / "out").glob("tokens-*")
    assert json.loads((place / "store.json").read_text())["views"] == 1
