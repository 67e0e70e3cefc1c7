"""The input of an embedding job: parts of bounded size, repeated ids, reading ahead."""

import numpy as np
import pytest

from biofm_jax.data.protein import ProteinData
from biofm_jax.embed import source as sources
from biofm_jax.embed.source import SeenIds, Source, one_ahead, survey


def test_parts_are_bounded_complete_and_leave_out_bad_lines(tmp_path):
    rng = np.random.default_rng(0)
    texts = ["M" * n for n in rng.integers(1, 90, 50)]
    texts[10] = "M" * 1000  # longer than a part
    path = tmp_path / "a.fasta"
    path.write_text("".join(f">p{i}\n{text}\n" for i, text in enumerate(texts)))
    source = Source(path, ProteinData())
    parts = list(source.parts(200, frozenset({5, 9})))
    read = [record.text for part in parts for record in part]
    assert read == [text for i, text in enumerate(texts) if i not in (2, 4)]
    sizes = [sum(len(record.text) for record in part) for part in parts]
    assert sorted(sizes)[-1] == 1000 and sorted(sizes)[-2] <= 200
    assert [len(part) for part in parts if len(part[0].text) == 1000] == [1]
    following = [len(part[0].text) for part in parts[1:]]
    assert all(size + more > 200 for size, more in zip(sizes, following))
    tokens = source.tokenized(parts[0])
    assert tokens.lengths().tolist() == [len(record.text) + 2 for record in parts[0]]


def test_repeated_ids_are_found_as_with_a_set_of_all():
    rng = np.random.default_rng(1)
    names = [f"p{i}" for i in rng.integers(0, 3000, 5000)]
    first: dict[str, int] = {}
    want = [first.setdefault(name, line) for line, name in enumerate(names, 1)]
    seen, found, at = SeenIds(), [], 0
    while at < len(names):
        step = int(rng.integers(1, 400))
        block = names[at : at + step]
        found += seen.add(block, list(range(at + 1, at + 1 + len(block)))).tolist()
        at += step
    assert found == want
    assert len(seen._runs) <= 13  # each at least twice as long as the next


def test_a_survey_counts_across_its_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 7)
    names = [*range(40), 3, 41]
    path = tmp_path / "a.fasta"
    path.write_text("".join(f">p{name}\n{'MK' * (i + 1)}\n" for i, name in enumerate(names)))
    source = Source(path, ProteinData())
    found = survey(source, 50, tolerance=0.1, listing=None, refuse_long=False)
    lengths = [2 * (i + 1) + 2 for i in range(42) if i != 40]
    assert (found.records, found.tokens, found.longest) == (41, sum(lengths), max(lengths))
    assert found.long == sum(length > 50 for length in lengths)
    assert found.bad == (81,)


def test_reading_ahead_keeps_order_and_hands_on_errors():
    assert list(one_ahead(iter(range(9)))) == list(range(9))

    def fails():
        yield 1
        raise ValueError("as read")

    ahead = one_ahead(fails())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="as read"):
        next(ahead)
