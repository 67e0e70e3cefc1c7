"""Image data sets: folders, tables, NPZ files; what is stored, split, batched and resumed."""

import json

import jax
import numpy as np
import pytest
from toy_images import folder_of_classes, gradient, save

from biofm_jax.data.bad_records import BadRecords
from biofm_jax.data.image_folders import Cut
from biofm_jax.data.image_records import ImageColumns, read_image_records
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.in_memory import example_batches, pack_examples
from biofm_jax.data.pictures import Picture
from biofm_jax.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIOFM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def classes(tmp_path):
    return folder_of_classes(tmp_path / "classes", 24)


def data(path, **changes) -> ImageData:
    return ImageData(str(path), **{"image": (10, 12), "holdout": 0.0} | changes)


def labels_of(path, text, name="labels.csv"):
    (path / name).write_text(text)
    return path / name


def test_a_folder_of_classes_becomes_batches_of_its_pixels(classes):
    spec = data(classes)
    store = spec.open()
    assert store.pixels.shape == (24, 10, 12, 3) and isinstance(store.pixels, np.memmap)
    assert {row["label"] for row in store.records} == {"normal", "tumour"}
    batch = next(spec.batches(store, batch_size=5, seed=0, epochs=1))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), spec.shapes(5))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), batch) == shapes
    assert (batch.segment_ids == 1).all() and not batch.tokens.any() and not batch.positions.any()
    for image, record in zip(batch.images, batch.examples[:, 0], strict=True):
        name = store.records[record]["id"]
        np.testing.assert_array_equal(image, gradient(10, 12, seed=int(name[-7:-4])))
    batches = list(spec.batches(store, batch_size=5, seed=0, epochs=1))
    assert sorted(np.concatenate([b.examples[:, 0] for b in batches]))[1:] == list(range(24))
    last = batches[-1]
    assert (last.examples[:, 0] < 0).sum() == 1
    assert not last.images[last.examples[:, 0] < 0].any()
    assert not last.segment_ids[last.examples < 0].any()


def test_an_order_is_resumed_and_shared_among_hosts(classes):
    spec = data(classes)
    store = spec.open()
    whole = list(spec.batches(store, batch_size=6, seed=3, epochs=3))
    stopped = spec.batches(store, batch_size=6, seed=3, epochs=3)
    for _ in range(5):
        next(stopped)
    state = json.loads(json.dumps(stopped.state()))
    resumed = spec.batches(spec.open(), batch_size=6, seed=3, epochs=3)
    resumed.restore(state)
    for expected, found in zip(whole[5:], resumed, strict=True):
        np.testing.assert_array_equal(expected.images, found.images)
    for host in range(2):
        share = np.arange(host, 6, 2)
        own = spec.batches(store, batch_size=6, seed=3, share=share, epochs=3)
        for expected, found in zip(whole, own, strict=True):
            np.testing.assert_array_equal(expected.images[share], found.images)
    other = next(spec.batches(store, batch_size=6, seed=4))
    assert (other.examples != whole[0].examples).any()


def test_cases_and_equal_images_stay_on_one_side(tmp_path):
    folder = folder_of_classes(tmp_path / "all", 40)
    rows = ["file,label,case"]
    rows += [
        f"{f.relative_to(folder)},x,case {i // 4}" for i, f in enumerate(folder.rglob("*.png"))
    ]
    labels_of(folder, "\n".join(rows))
    spec = data(folder, holdout=0.5)
    store = spec.open()
    sides = [
        {store.records[i]["group"] for i in store.split(0.5, held=held)} for held in (True, False)
    ]
    assert all(sides) and not sides[0] & sides[1]
    held = list(spec.batches(store, batch_size=4, seed=0, holdout=True))
    assert {store.records[i]["group"] for b in held for i in b.examples.ravel() if i >= 0} == sides[
        0
    ]

    twins = tmp_path / "twins"
    for number in range(30):
        save(twins / f"{number:02}.png", gradient(8, 8, seed=number // 2))
    store = data(twins, holdout=0.4).open()
    side = set(store.split(0.4, held=True).tolist())
    assert 0 < len(side) < 30 and all((i ^ 1) in side for i in side)
    half = data(twins, holdout=0.4, fraction=0.5)
    assert 0 < len(store.split(0.4, held=False, fraction=half.fraction)) < 30 - len(side)


def test_a_table_names_its_bad_rows_and_files(tmp_path):
    folder = tmp_path / "set"
    for number in range(6):
        save(folder / "images" / f"{number}.png", gradient(9, 9, seed=number))
    save(folder / "images" / "flat.png", np.full((9, 9, 3), 7, np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    cut = save(folder / "images" / "cut.png", noise)
    cut.write_bytes(cut.read_bytes()[:900])
    names = ["0", "1", "2", "3", "4", "5", "absent", "", "flat", "cut"]
    table = "file,label\n" + "\n".join(
        f"{n + '.png' if n else ''},{i % 2}" for i, n in enumerate(names)
    )
    labels_of(folder, table)
    with pytest.raises(UserError) as stopped:
        data(folder).open()
    text = str(stopped.value)
    assert "4 of 10 records are bad" in text and "--data.tolerance 0.4" in text
    for reason in (
        "line 8: absent.png: there is no such file",
        "line 9: no image is named",
        "flat.png: every pixel is 7: zero variance",
        "cut.png: the picture is cut short",
    ):
        assert reason in text
    store = data(folder, tolerance=0.4).open()
    assert len(store) == 6 and store.names([5]) == ["images/5.png"]
    with pytest.raises(UserError, match="4 of 10 records are bad, listed in"):
        data(folder, tolerance=0.1).open()  # of the cached folder


def test_other_tables_and_columns(tmp_path):
    folder = folder_of_classes(tmp_path / "c", 4)
    lines = [
        {"image": "normal/000.png", "label": 3, "patient_id": "p1", "split": "test"},
        {"image": "tumour/001.png", "label": 4, "patient_id": "p2", "split": "train"},
    ]
    labels_of(folder, "\n".join(map(json.dumps, lines)) + "\nnot json\n", "some.jsonl")
    bad = BadRecords("some")
    found = read_image_records(folder / "some.jsonl", bad)
    assert [(r.label, r.group, r.split, r.line) for r in found] == [
        ("3", "p1", "test", 1),
        ("4", "p2", "train", 2),
    ]
    assert [record.line for record in bad.records] == [3]
    labels_of(folder, "which\tgrade I\nnormal/002.png\tG2\n", "some.tsv")
    columns = ImageColumns(file="which", label="grade I")
    assert read_image_records(folder / "some.tsv", bad, columns)[0].label == "G2"
    with pytest.raises(UserError, match=r"no column 'stage'.* with --data\.columns\.label "):
        read_image_records(folder / "some.tsv", bad, ImageColumns(file="which", label="stage"))
    with pytest.raises(UserError, match="'image' or 'file'"):
        read_image_records(folder / "some.tsv", bad)


def test_splits_that_the_source_names(tmp_path):
    arrays = {}
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        arrays[f"{split}_images"] = np.stack(
            [gradient(8, 8, 1, len(split) + i) for i in range(count)]
        )[..., 0]
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 2
    np.savez(tmp_path / "some.npz", **arrays)
    path = tmp_path / "some.npz"
    every = data(path, image=(8, 8)).open()
    assert len(every) == 9 and every.records[6]["id"] == "some.npz#val_images/0"
    assert [row["label"] for row in every.records[:3]] == ["0", "1", "0"]
    assert len(data(path, image=(8, 8), split="test").open()) == 4
    with pytest.raises(UserError, match="no record is of split 'other'"):
        data(path, image=(8, 8), split="other").open()
    grey = data(path, image=(8, 8), channels=1, bits=16).open()
    np.testing.assert_array_equal(
        grey.pixels[0, ..., 0], arrays["train_images"][0] * np.uint16(257)
    )
    findings = np.array([[0, 1, 1], [0, 0, 0]])  # as of ChestMNIST: no finding is a label, too
    np.savez(tmp_path / "many.npz", train_images=arrays["val_images"][:2], train_labels=findings)
    assert [row["label"] for row in data(tmp_path / "many.npz").open().records] == ["1;2", "none"]
    np.savez(tmp_path / "none.npz", x=np.zeros(3))
    with pytest.raises(UserError, match="no array is named SPLIT_images"):
        data(tmp_path / "none.npz").open()
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match="cut short or damaged"):
        data(tmp_path / "cut.npz").open()


def test_volumes_whole_sliced_and_with_neighbours(tmp_path):
    volumes = np.stack(
        [gradient(6, 8, 5, seed)[..., None].transpose(2, 0, 1, 3)[..., 0] for seed in range(3)]
    )
    np.savez(tmp_path / "v.npz", train_images=volumes)
    path = tmp_path / "v.npz"
    whole = data(path, image=(5, 6, 8), channels=1).open()
    np.testing.assert_array_equal(whole.pixels[..., 0], volumes)
    flat = data(path, image=(6, 8), channels=1).open()
    np.testing.assert_array_equal(flat.pixels[..., 0], volumes.reshape(15, 6, 8))
    assert len({row["group"] for row in flat.records}) == 3  # slices of a volume stay together
    near = data(path, image=(6, 8), volumes="neighbours").open()
    np.testing.assert_array_equal(near.pixels[7], volumes[1, 1:4].transpose(1, 2, 0))
    assert near.records[7]["id"] == "v.npz#train_images/1/neighbours/2"
    batch = next(data(path, image=(5, 6, 8), channels=1).batches(whole, batch_size=2, seed=0))
    assert batch.images.shape == (2, 5, 6, 8, 1)
    save(tmp_path / "p" / "a.png", gradient(6, 8))
    with pytest.raises(UserError, match="the image is flat"):
        data(tmp_path / "p", image=(5, 6, 8)).open()


def test_a_prepared_folder_is_read_with_the_fields_it_was_made_with(tmp_path, classes):
    spec = data(classes, channels=1)
    out = spec.prepare(tmp_path / "out")
    assert data(out, channels=1).open().digest() == spec.open().digest()
    with pytest.raises(UserError, match=r"prepared with channels 1, and data.channels is 3"):
        data(out).open()
    with pytest.raises(UserError, match=r"prepared with image 10 12.*give --data.image 10 12"):
        data(out, channels=1, image=(8, 8)).open()
    with pytest.raises(UserError, match="exists already"):
        spec.prepare(out)
    about = json.loads((out / "metadata.json").read_text())
    assert (about["count"], about["bad"], about["kind"]) == (24, 0, "imaging")


def test_a_changed_folder_is_read_again(classes):
    before = data(classes).open()
    save(classes / "normal" / "new.png", gradient(10, 12, seed=99))
    after = data(classes).open()
    assert len(after) == len(before) + 1 and after.digest() != before.digest()


def test_pictures_of_tasks_become_rows(tmp_path, classes):
    spec = data("unused", image=(6, 6), channels=1)
    pictures = [Picture(f"classes/normal/{i:03}.png", tmp_path) for i in (0, 2, 4)]
    assert [str(p) for p in pictures] == [p + "" for p in pictures]
    examples = [spec.to_example()(spec.clean(p)) for p in pictures]
    packed = pack_examples(
        examples, spec.vocabulary, max_tokens=1, segments=1, batch_size=2, labels=np.eye(3)[:, :1]
    )
    assert [b.images.shape for b in packed.batches] == [(2, 6, 6, 1)] * 2
    rows = packed.gather([b.images[:, None] for b in packed.batches])
    np.testing.assert_array_equal(rows, np.stack([e.pixels for e in examples]))
    tuned = example_batches(examples, None, max_tokens=1, segments=1, batch_size=3, seed=0)
    assert next(tuned).images.shape == (3, 6, 6, 1)
    with pytest.raises(UserError, match=r"no\.png: there is no such file"):
        Picture("no.png", tmp_path).pixels()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": (4,)}, "data.image"),
        ({"spacing": (1.0,)}, "millimetres for each of the 2 axes"),
        ({"window": (5.0, 5.0)}, "data.window"),
        ({"volumes": "neighbours", "channels": 1}, "data.channels 3"),
        ({"holdout": 1.0}, "each is a share"),
        ({"path": ""}, "data.path is empty"),
        ({"path": "/no/such"}, "no such file or folder"),
    ],
)
def test_impossible_data_are_refused(changes, reason):
    with pytest.raises(UserError, match=reason):
        ImageData(**{"path": "x"} | changes).open()


def test_folders_of_splits_keep_the_test_images_out(tmp_path):
    """As Kermany's chest X-rays lie: train/NORMAL, test/NORMAL; the label is the class."""
    for number, split in enumerate(("train", "Val", "TEST")):
        for label in ("NORMAL", "PNEUMONIA"):
            save(tmp_path / "k" / split / label / f"{number}.png", gradient(10, 12, seed=number))
    store = data(tmp_path / "k").open()
    assert [(row["label"], row["split"]) for row in store.records] == [
        (label, split) for split in ("Val", "train") for label in ("NORMAL", "PNEUMONIA")
    ]
    tested = data(tmp_path / "k", split="test").open()
    assert {row["split"] for row in tested.records} == {"TEST"} and len(tested) == 2


def test_splits_of_a_table_in_capitals_and_a_link_to_nothing(tmp_path):
    for number in range(3):
        save(tmp_path / "t" / f"{number}.png", gradient(10, 12, seed=number))
    (tmp_path / "t" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    table = labels_of(tmp_path / "t", "file,label,split\n0.png,a,TRAIN\n1.png,a,TEST\n2.png,a,\n")
    assert [row["id"] for row in data(tmp_path / "t").open().records] == ["0.png", "2.png"]
    table.write_text(table.read_text() + "gone.png,a,TRAIN\n")
    with pytest.raises(UserError, match=r"labels\.csv, line 5: gone\.png: there is no such file"):
        data(tmp_path / "t").open()


def test_folders_without_images_and_lone_files(tmp_path, classes):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.md").write_text("none")
    with pytest.raises(UserError, match="no image in it"):
        data(tmp_path / "empty").open()
    (classes / "notes.txt").write_text("other files are counted")
    about = json.loads((data(classes).prepare(tmp_path / "o") / "metadata.json").read_text())
    assert about["other_files"] == {".txt": 1}
    one = read_image_records(classes / "normal" / "000.png", BadRecords("x"), cut=Cut(2))
    assert [str(record.picture) for record in one] == ["000.png"]


def test_real_cases_stay_together(biofm_data):
    spec = ImageData("$BIOFM_DATA/imaging/ebhi_colorectal", image=(16, 16), holdout=0.2)
    store = spec.open()
    assert len(store) == 280 and len({row["group"] for row in store.records}) == 73
    held = {store.records[i]["group"] for i in store.split(0.2, held=True)}
    kept = {store.records[i]["group"] for i in store.split(0.2, held=False)}
    assert held and not held & kept
