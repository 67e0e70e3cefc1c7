"""Slides, tissue, stains and tiles, on slides made here, with lesions at known places."""

import numpy as np
import pytest

from biofm_jax import cli_data
from biofm_jax.data.bad_records import BadText
from biofm_jax.data.imaging import ImageData
from biofm_jax.data.pictures import Picture
from biofm_jax.data.slide_tiles import TileSpec, prepare_tiles
from biofm_jax.data.slides import open_slide, tile_members
from biofm_jax.data.stain import REFERENCE, Macenko, Reinhard, reference
from biofm_jax.data.tissue import otsu, share_of_tissue, tissue_mask
from biofm_jax.errors import UserError

tifffile = pytest.importorskip("tifffile")

GLASS, TISSUE = 243, (200, 120, 170)


def picture(size=512, top=128, left=64, h=192, w=256, seed=0):
    """Glass with one rectangle of tissue that is not of one colour."""
    made = np.full((size, size, 3), GLASS, np.uint8)
    noise = np.random.default_rng(seed).integers(-30, 30, (h, w, 3))
    made[top : top + h, left : left + w] = np.array(TISSUE) + noise
    return made


def write_slide(path, pixels, mpp=0.5, levels=3):
    """A pyramid of tiles in a TIFF, as OpenSlide reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            dots = 10000 / mpp / 2**level if mpp else 0
            file.write(
                pixels[:: 2**level, :: 2**level],
                tile=(64, 64),
                photometric="rgb",
                resolution=(dots, dots) if dots else None,
                resolutionunit="CENTIMETER" if dots else None,
                subfiletype=1 if level else 0,
            )
    return path


@pytest.fixture(params=["openslide", "plain"])
def backend(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    else:
        pytest.importorskip("openslide")


def test_levels_resolution_and_regions(tmp_path, backend):
    pixels = picture()
    slide = open_slide(write_slide(tmp_path / "s.tif", pixels))
    assert slide.sizes == ((512, 512), (256, 256), (128, 128))
    np.testing.assert_allclose(slide.mpp, 0.5, rtol=1e-3)
    np.testing.assert_array_equal(
        slide.region(100, 130, 64, 48, (48, 64)), pixels[130:178, 100:164]
    )
    half = slide.region(64, 128, 128, 128, (64, 64))
    np.testing.assert_array_equal(half, pixels[128:256:2, 64:192:2])  # of the second level
    beyond = slide.region(480, 480, 64, 64, (64, 64))
    assert (beyond[32:] == 255).all() and (beyond[:32, :32] == GLASS).all()


def test_tissue_is_found_where_it_lies():
    pixels = picture()
    mask = tissue_mask(pixels)
    inside = np.zeros((512, 512), bool)
    inside[128:320, 64:320] = True
    assert (mask != inside).mean() < 0.01
    grey = np.random.default_rng(0).integers(200, 250, (64, 64, 1)).repeat(3, 2).astype(np.uint8)
    assert not tissue_mask(grey).any()
    assert not tissue_mask(np.zeros((64, 64, 3), np.uint8)).any()
    assert 0.2 < otsu(np.r_[np.full(50, 0.1), np.full(80, 0.8)]) < 0.8
    shares = share_of_tissue(inside, np.array([0, 64, 448]), np.array([128, 128, 0]), 128, 128)
    np.testing.assert_allclose(shares, [0.5, 1.0, 0.0])


def test_tiles_lie_on_tissue_at_the_wanted_resolution(tmp_path):
    slide = open_slide(write_slide(tmp_path / "s.tif", picture()))
    fine = tile_members(slide, 64, 0.5)
    places = {tuple(map(int, m.split("/")[1:3])) for m in fine}
    assert places == {(x, y) for x in range(64, 320, 64) for y in range(128, 320, 64)}
    coarse = tile_members(slide, 64, 1.0, tissue=0.4)  # 128 pixels of the slide a tile
    places = {tuple(map(int, m.split("/")[1:4])) for m in coarse}
    assert places == {(0, 128, 128), (128, 128, 128), (256, 128, 128), (128, 256, 128)}
    assert len(tile_members(slide, 64, 0.5, stride=32)) > 3 * len(fine)
    one = Picture(f"s.tif#{coarse[0]}", tmp_path).read()
    assert one.pixels.shape == (64, 64, 3)
    np.testing.assert_allclose(one.spacing, 0.001, rtol=1e-3)  # mm
    with pytest.raises(BadText, match=r"coarser than 0\.25"):
        tile_members(slide, 64, 0.25)


def test_slides_without_tissue_resolution_or_end_are_named(tmp_path, backend):
    folder = tmp_path / "slides"
    write_slide(folder / "good" / "a.tif", picture())
    write_slide(folder / "bad" / "blank.tif", np.full((256, 256, 3), GLASS, np.uint8))
    write_slide(folder / "bad" / "unknown.tif", picture(), mpp=0)
    whole = write_slide(folder / "bad" / "cut.tif", picture()).read_bytes()
    (folder / "bad" / "cut.tif").write_bytes(whole[:300])
    with pytest.raises(UserError) as stopped:
        prepare_tiles(folder, tmp_path / "out", TileSpec(64))
    text = str(stopped.value)
    for reason in (
        "blank.tif: no tissue on the slide",
        "unknown.tif: the slide tells no micrometres a pixel",
        "cut.tif: the",
    ):
        assert reason in text
    counts = prepare_tiles(folder, tmp_path / "out", TileSpec(64), tolerance=0.3)
    assert counts == {"good/a.tif": 12}
    with pytest.raises(UserError, match="no slide; endings are"):
        prepare_tiles(tmp_path / "out", tmp_path / "no", TileSpec(64))


def test_a_tile_store_is_image_data(tmp_path, capsys):
    for number in range(3):
        write_slide(tmp_path / "s" / f"{number}.tif", picture(seed=number))
    (tmp_path / "s.csv").write_text("file,label\n" + "\n".join(f"s/{n}.tif,G{n}" for n in range(3)))
    out = tmp_path / "out"
    words = ["tiles", str(tmp_path / "s.csv"), "--out", str(out), "--size", "64"]
    assert cli_data.main(words) == 0
    assert "36 tiles of 3 slides" in capsys.readouterr().out
    data = ImageData(str(out), image=(64, 64), holdout=0.0)
    store = data.open()
    assert {(row["label"], row["group"]) for row in store.records} == {
        (f"G{n}", f"s/{n}.tif") for n in range(3)
    }
    row = store.records[13]
    left, top = map(int, row["id"].split("/")[2:4])
    expected = picture(seed=1)[top : top + 64, left : left + 64]
    np.testing.assert_array_equal(store.pixels[13], expected)
    np.testing.assert_array_equal(Picture(row["id"], tmp_path).pixels(), expected)
    assert next(data.batches(store, batch_size=4, seed=0)).images.shape == (4, 64, 64, 3)
    assert cli_data.main(["inspect", str(out)]) == 0
    assert "3 (patients, cases or volumes)" in capsys.readouterr().out


def stained(stains, strongest, seed=0, count=4000):
    """Pixels of two stains in known amounts: each alone now and then, mostly mixed."""
    amounts = np.random.default_rng(seed).gamma(1.0, 0.35, (2, count)) * strongest[:, None]
    amounts[0, : count // 5] = 0
    amounts[1, count // 5 : 2 * count // 5] = 0
    light = 240 * np.exp(-(stains @ amounts)).T
    return np.clip(np.rint(light - 1), 0, 255).astype(np.uint8)


def test_macenko_finds_the_stains_and_brings_them_to_the_reference():
    other = np.array([[0.65, 0.07], [0.70, 0.99], [0.29, 0.11]])
    other /= np.linalg.norm(other, axis=0)
    pixels = stained(other, np.array([1.0, 0.8]))
    found = Macenko.of(pixels)
    cosines = (found.stains * other).sum(0)
    assert (cosines > 0.995).all()  # within 6 degrees, at 8 bits
    moved = Macenko.of(found.to(pixels, REFERENCE))
    assert ((moved.stains * REFERENCE.stains).sum(0) > 0.995).all()
    np.testing.assert_allclose(moved.strongest, REFERENCE.strongest, rtol=0.15)
    same = found.to(pixels, found)
    faint = (pixels < 235).all(1)
    assert np.abs(same[faint].astype(int) - pixels[faint]).mean() < 4


def test_reinhard_moves_mean_and_deviation_and_leaves_glass():
    pixels = stained(REFERENCE.stains, np.array([0.7, 0.5]))
    pixels[:100] = GLASS
    found, target = Reinhard.of(pixels), reference(Reinhard)
    made = found.to(pixels, target)
    assert (made[:100] == GLASS).all()
    moved = Reinhard.of(made)
    before = np.abs(found.mean - target.mean).max()
    assert np.abs(moved.mean - target.mean).max() < 0.5 * before


@pytest.mark.parametrize("kind", [Macenko, Reinhard])
def test_what_is_not_stained_is_refused(kind):
    with pytest.raises(BadText, match="0 stained pixels"):
        kind.of(np.full((50, 50, 3), GLASS, np.uint8))
    if kind is Macenko:
        with pytest.raises(BadText, match="one colour"):
            kind.of(np.full((50, 50, 3), 90, np.uint8))


def test_stains_of_a_slide_not_of_a_tile_decide(tmp_path):
    write_slide(tmp_path / "s.tif", picture())
    for stain in ("macenko", "reinhard"):
        prepare_tiles(tmp_path / "s.tif", tmp_path / stain, TileSpec(64, stain=stain))
        store = ImageData(str(tmp_path / stain), image=(64, 64)).open()
        slide = open_slide(tmp_path / "s.tif").overview()
        kind = {"macenko": Macenko, "reinhard": Reinhard}[stain]
        profile = kind.of(slide[tissue_mask(slide)])
        plain = Picture(store.records[4]["id"], tmp_path).pixels()
        np.testing.assert_array_equal(store.pixels[4], profile.to(plain, reference(kind)))
