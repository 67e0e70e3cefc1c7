import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from biofm_jax.data.pipeline import BatchIterator, FixedRows, RowBuilder, ShuffledRows
from biofm_jax.data.token_store import TokenStore
from biofm_jax.data.tokenizers import esm2_tokenizer
from biofm_jax.errors import UserError

VOCABULARY = esm2_tokenizer().vocabulary


def make_store(count=1000, longest=60, views=1) -> TokenStore:
    """Sequence i repeats letters that tell i, so that tokens name their record."""
    lengths = np.random.default_rng(0).integers(4, longest, count * views)
    lengths += np.arange(count * views) % views - lengths % views  # views differ in length
    rows = [4 + (np.arange(n) * 7 + i // views) % 20 for i, n in enumerate(lengths)]
    flat = TokenStore.from_arrays(rows, VOCABULARY)
    names = [f"r{i}" for i in range(count)]
    return TokenStore(
        ids=flat.ids,
        offsets=flat.offsets,
        hashes=np.zeros(count, np.uint64),
        views=views,
        vocabulary=VOCABULARY,
        names=lambda records: [names[i] for i in records],
    )


def iterate(store, *, tokens=128, segments=8, size=4, seed=0, records=None, share=None, **options):
    builder = RowBuilder(store, tokens, segments, size if share is None else len(share), seed)
    records = np.arange(len(store)) if records is None else records
    return BatchIterator(ShuffledRows(builder, records, **options), builder, share, size)


def counted(batches) -> Counter:
    return Counter(int(i) for batch in batches for i in batch.examples.ravel() if i >= 0)


def assert_same(first, second):
    for name in ("tokens", "segment_ids", "positions", "examples"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    if first.pair is not None:
        assert_same(first.pair, second.pair)


def test_batch_holds_the_records_it_names():
    store = make_store()
    iterator = iterate(store)
    for batch in (next(iterator) for _ in range(20)):
        assert batch.tokens.shape == batch.segment_ids.shape == batch.positions.shape == (4, 128)
        assert batch.examples.shape == (4, 8)
        assert batch.tokens.dtype == batch.examples.dtype == np.int32
        for row in range(4):
            for segment, record in enumerate(batch.examples[row]):
                here = batch.segment_ids[row] == segment + 1
                if record < 0:
                    assert not here.any()
                    continue
                start, stop = store.offsets[record : record + 2]
                np.testing.assert_array_equal(batch.tokens[row][here], store.ids[start:stop])
                np.testing.assert_array_equal(batch.positions[row][here], np.arange(stop - start))
        assert (batch.tokens[batch.segment_ids == 0] == VOCABULARY.pad).all()
    examples = batch.examples[batch.examples >= 0]
    assert iterator.names(batch) == [f"r{i}" for i in examples]


@pytest.mark.parametrize("hosts", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [30, 1000])
def test_hosts_share_the_batches_of_one(hosts, count):
    store, size = make_store(count), 24
    whole = list(iterate(store, size=size, epochs=3))
    assert set(counted(whole).values()) == {3} and len(counted(whole)) == count
    shares = np.arange(size).reshape(-1, hosts).T  # host h has rows h, h + hosts, ...
    parts = [list(iterate(store, size=size, share=share, epochs=3)) for share in shares]
    for number, batch in enumerate(whole):
        for share, part in zip(shares, parts, strict=True):
            assert len(part) == len(whole)
            mine = {n: getattr(batch, n)[share] for n in ("tokens", "segment_ids", "examples")}
            for name, rows in mine.items():
                np.testing.assert_array_equal(getattr(part[number], name), rows)


def test_a_position_is_good_for_any_number_of_hosts():
    store = make_store()
    first = iterate(store, share=np.array([2, 3]))
    for _ in range(7):
        next(first)
    alone = iterate(store)
    alone.restore(json.loads(json.dumps(first.state())))
    np.testing.assert_array_equal(next(first).tokens, next(alone).tokens[2:])


def test_order_follows_seed_and_epoch_and_is_global():
    store = make_store(4000)
    first = [i for b in iterate(store, epochs=2) for i in b.examples[b.examples >= 0]]
    again = [i for b in iterate(store, epochs=2) for i in b.examples[b.examples >= 0]]
    other = [i for b in iterate(store, epochs=2, seed=1) for i in b.examples[b.examples >= 0]]
    assert first == again != other
    assert first[:4000] != first[4000:]
    assert np.std(first[:256]) > 900  # of 0..3999, uniform: 1155


@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("stop", [0, 1, 7, 40])
def test_restored_iterator_gives_the_same_batches(views, stop):
    store = make_store(200, longest=200, views=views)  # some longer than a row
    first = iterate(store, share=np.array([2, 3]))
    for _ in range(stop):
        next(first)
    state = json.loads(json.dumps(first.state()))
    second = iterate(store, share=np.array([2, 3]))
    next(second)
    second.restore(state)
    for _ in range(60):
        assert_same(next(first), next(second))


def test_state_is_a_snapshot():
    iterator = iterate(make_store())
    next(iterator)
    state = iterator.state()
    before = json.dumps(state)
    expected = next(iterator)
    assert json.dumps(state) == before
    iterator.restore(state)
    assert_same(next(iterator), expected)


def test_restore_in_a_new_process(fasta, tmp_path):
    code = (
        "import json, sys, hashlib; from biofm_jax.data.protein import ProteinData\n"
        f"data = ProteinData(path={str(fasta)!r}, max_tokens=64)\n"
        "batches = data.batches(data.open(), batch_size=3, seed=5)\n"
        "state = json.loads(sys.argv[1])\n"
        "batches.restore(state) if state else [next(batches) for _ in range(9)]\n"
        "state = batches.state()\n"
        "later = [next(batches).tokens.tobytes() for _ in range(30)]\n"
        "print(json.dumps([state, hashlib.sha256(b''.join(later)).hexdigest()]))"
    )

    def run(state):
        command = [sys.executable, "-c", code, json.dumps(state)]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    state, digest = run(None)
    assert run(state) == [state, digest]


def test_state_of_other_data_is_refused():
    state = iterate(make_store()).state()
    with pytest.raises(UserError, match="seed = 0, now it is 3"):
        iterate(make_store(), seed=3).restore(state)
    with pytest.raises(UserError, match="records = 1000, now it is 999"):
        iterate(make_store(999)).restore(state)


def test_long_sequences_take_another_window_each_epoch():
    ids = np.tile(np.arange(4, 24), 2000)  # 40,000 residues
    store = TokenStore.from_arrays([ids], VOCABULARY)
    windows = [batch.tokens[0] for batch in iterate(store, size=1, epochs=20)]
    again = [batch.tokens[0] for batch in iterate(store, size=1, epochs=20)]
    assert len(windows) == 20
    assert len({int(window[0]) for window in windows}) > 5
    for window, same in zip(windows, again):
        np.testing.assert_array_equal(window, same)
        assert (np.diff(window) % 20 == 1).all()


def test_views_are_two_of_the_same_record_side_by_side():
    store = make_store(300, longest=100, views=4)  # the record's own text and three random ones
    seen = set()
    for batch in iterate(store, epochs=4):
        np.testing.assert_array_equal(batch.examples, batch.pair.examples)
        for row, segment in zip(*np.nonzero(batch.examples >= 0)):
            record = int(batch.examples[row, segment])
            views = []
            for view in (batch, batch.pair):
                text = view.tokens[row][view.segment_ids[row] == segment + 1]
                starts = store.offsets[record * 4 : record * 4 + 5]
                found = [
                    v
                    for v in range(4)
                    if np.array_equal(store.ids[starts[v] : starts[v + 1]], text)
                ]
                views.append(found)
            assert len(views[0]) == len(views[1]) == 1
            seen.add((views[0][0], views[1][0]))
    assert seen == {(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)}


def test_fixed_order_is_complete_and_of_one_shape():
    store = make_store(100)
    builder = RowBuilder(store, 128, 8, 4)
    records = np.arange(10, 90)
    batches = list(BatchIterator(FixedRows(builder, records), builder))
    assert counted(batches) == Counter(range(10, 90))
    assert {batch.tokens.shape for batch in batches} == {(4, 128)}
    again = BatchIterator(FixedRows(builder, records), builder)
    state = None
    for number, batch in enumerate(batches):
        assert_same(batch, next(again))
        if number == 1:
            state = again.state()
    again.restore(state)
    assert_same(next(again), batches[2])


def test_fixed_order_gives_every_host_as_many_batches():
    store = make_store(30)
    builder = RowBuilder(store, 128, 8, 4)
    parts = [
        list(BatchIterator(FixedRows(builder, np.arange(30)), builder, np.arange(4) + 4 * host, 12))
        for host in range(3)
    ]
    assert [len(part) for part in parts] == [1, 1, 1]
    assert sum(map(counted, parts), Counter()) == Counter(range(30))
    assert (parts[2][0].segment_ids == 0).all()  # an empty part still has the shape


def test_fill_and_rate_of_whole_batches():
    import time

    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(300), 0.7, 20_000), 20, 1024).astype(int)
    store = TokenStore.from_arrays([np.full(n, 5, np.uint8) for n in lengths], VOCABULARY)
    batches = iterate(store, tokens=1024, segments=16, size=32)
    next(batches)
    start = time.process_time()
    made = [next(batches) for _ in range(100)]
    seconds = time.process_time() - start
    assert np.mean([(batch.segment_ids > 0).mean() for batch in made]) >= 0.97
    assert 100 / seconds > 100  # batches a second; a hundredth of a step at any real size
