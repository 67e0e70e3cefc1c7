import gzip
import hashlib
import re

import pytest

from biofm_jax.data.fetch import look
from biofm_jax.data.registry import TERMS, find, registry
from biofm_jax.errors import UserError

PINNED = re.compile(r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}/\S+")

each_set = pytest.mark.parametrize("each", registry().values(), ids=lambda each: each.name)


def test_the_sets_that_the_tasks_and_experiments_read_are_there():
    needed = {"flip_gb1", "dms_blat", "bbbp", "bace", "esol", "freesolv", "lipophilicity"}
    assert needed | {"deeploc_small", "smiles_pretrain"} <= set(registry())
    assert len(registry()) == 43


@each_set
def test_a_set_is_complete(each):
    assert re.fullmatch(r"[a-z0-9_]+", each.name)
    assert each.about and each.licence and each.citation and each.terms in TERMS
    assert each.files and each.bytes > 0
    assert ("BY-NC" in each.licence) == (each.terms == "non-commercial")
    assert each.terms != "open" or "none stated" not in each.licence
    assert all(file.path.startswith(f"{each.folder}/") for file in each.files)
    assert len({file.path for file in each.files}) == len(each.files)
    assert all(re.fullmatch(r"github\.com/\S+/\S+ at [0-9a-f]{8}", o) for o in each.origins)


@each_set
def test_files_are_pinned_and_stay_under_the_root(each):
    for file in each.files:
        check(file)


def check(file):
    assert PINNED.fullmatch(file.url) and "%" not in file.path
    parts = file.path.split("/")
    assert len(parts) >= 3 and not {"", ".", ".."} & set(parts)
    assert all(re.fullmatch(r"[0-9a-f]{64}", text) for text in (file.sha256, file.origin_sha256))
    assert file.bytes > 0 and file.origin_bytes > 0
    assert file.stored in ("as_is", "gzip")
    if file.stored == "gzip":
        assert file.path.endswith(".gz") and file.sha256 != file.origin_sha256
        assert not file.url.endswith(".gz")
    else:
        assert (file.bytes, file.sha256) == (file.origin_bytes, file.origin_sha256)


def test_one_place_has_one_file():
    of_path = {}
    for each in registry().values():
        for file in each.files:  # a licence may belong to several sets
            assert of_path.setdefault(file.path, file) == file


@each_set
def test_stored_files_have_the_checksums_of_the_table(each, biofm_data):
    for file in each.files:
        content = (biofm_data / file.path).read_bytes()
        assert len(content) == file.bytes, file.path
        assert hashlib.sha256(content).hexdigest() == file.sha256, file.path
        if file.stored == "gzip":
            content = gzip.decompress(content)
        assert len(content) == file.origin_bytes, file.path
        assert hashlib.sha256(content).hexdigest() == file.origin_sha256, file.path
    assert {placed.status for placed in look(each, biofm_data)} == {"present"}


def test_sets_are_found_by_name_once_and_in_order():
    assert [each.name for each in find(("esol", "flip_gb1", "esol"))] == ["esol", "flip_gb1"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flip_gb", "did you mean flip_gb1"),
        ("lipo", "lipophilicity"),
        ("moleculenet", "did you mean bbbp or bace or esol or freesolv or lipophilicity"),
        ("zzz", "'zzz': `biofm data fetch` lists all 43"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, words):
    with pytest.raises(UserError, match=words):
        find(("esol", name))
