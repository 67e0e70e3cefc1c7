import dataclasses

import numpy as np
import pytest

from biofm_jax.errors import UserError
from biofm_jax.evaluate.figures import png_address
from biofm_jax.evaluate.report import write_report
from biofm_jax.interpret.pictures import picture
from biofm_jax.interpret.records import (
    KINDS,
    Interpretation,
    read_interpretations,
    write_interpretation,
)

RNG = np.random.default_rng(0)
LETTERS = np.array(list("ACDEF" * 20))
ARRAYS = {
    "rollout": {"flow": RNG.random((9, 9)), "tokens": LETTERS[:9]},
    "contacts": {"contacts": RNG.random((90, 90)), "tokens": LETTERS[:90]},
    "mutagenesis": {
        "changes": RNG.normal(size=(90, 5)),
        "tokens": LETTERS[:90],
        "alphabet": np.array(list("ACDEF")),
    },
    "gradients": {"attributions": RNG.normal(size=33), "tokens": LETTERS[:33]},
    "embeddings": {
        "points": RNG.normal(size=(50, 2)),
        "labels": np.where(np.arange(50) % 7, np.arange(50) % 2, np.nan),
        "variance": np.array([0.5, 0.2]),
    },
    "maps": {
        "image": RNG.random((8, 9, 1)),
        "maps": np.stack([RNG.random((8, 9)), RNG.normal(size=(8, 9)), np.zeros((8, 9))]),
        "names": np.array(["rollout", "gradient x input", "nothing"]),
        "mask": np.eye(8, 9, dtype=bool),
    },
    "pointing": {
        "names": np.array(["rollout", "gradient"]),
        "hits": RNG.random((2, 30)) < 0.4,
        "areas": RNG.random(30) / 5,
    },
    "neighbours": {
        "queries": RNG.random((2, 8, 8, 3)),
        "found": RNG.random((2, 4, 8, 8, 3)),
        "query_labels": np.array(["ill", "Serrated_adenoma"]),
        "found_labels": np.array([["ill"] * 4, ["well"] * 4]),
        "similarity": RNG.random((2, 4)),
    },
    "reconstruction": {name: RNG.random((3, 8, 8, 1)) for name in ("images", "shown", "drawn")},
}


def made(kind, **changes):
    found = Interpretation(
        kind, "toy", "task", f"{kind} of <b>", "How to read it.", "nats", 0, "biofm x", "abc",
        ARRAYS[kind],
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(tmp_path, kind):
    path = write_interpretation(made(kind), tmp_path / "deep", kind)
    (found,), problems = read_interpretations([tmp_path])
    assert not problems and found == made(kind) and path.name == f"{kind}.interpretation.json"
    for name, array in ARRAYS[kind].items():
        np.testing.assert_array_equal(found.arrays[name], array)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_picture(kind):
    assert png_address(picture(made(kind))).startswith("data:image/png;base64,")


def test_values_that_are_all_zero_can_be_drawn():
    arrays = ARRAYS["mutagenesis"] | {"changes": np.zeros((90, 5))}
    png_address(picture(made("mutagenesis", arrays=arrays)))
    png_address(
        picture(made("gradients", arrays=ARRAYS["gradients"] | {"attributions": np.zeros(33)}))
    )


def test_labels_that_are_numbers_get_a_scale():
    arrays = ARRAYS["embeddings"] | {"labels": RNG.normal(size=50)}
    assert len(picture(made("embeddings", arrays=arrays)).axes) == 2


def test_missing_arrays_and_broken_files_are_named(tmp_path):
    with pytest.raises(UserError, match="an interpretation by rollout lacks flow, tokens"):
        made("rollout", arrays={})
    for name in ("whole", "cut", "bare", "text"):
        write_interpretation(made("gradients"), tmp_path, name)
    (tmp_path / "cut.arrays.npz").write_bytes(b"PK")
    (tmp_path / "bare.arrays.npz").unlink()
    (tmp_path / "text.interpretation.json").write_text("{")
    found, problems = read_interpretations([tmp_path])
    assert len(found) == 1 and len(problems) == 3
    assert all("not a whole interpretation" in problem for problem in problems)


def test_the_report_shows_them(tmp_path):
    for kind in KINDS:
        write_interpretation(made(kind), tmp_path, kind)
    (tmp_path / "bad.interpretation.json").write_text("[]")
    written = write_report([tmp_path], tmp_path / "report.html")
    page = written.html.read_text()
    assert len(written.problems) == 1 and "bad.interpretation.json" in page
    assert page.count("How to read it.") == len(KINDS)
    assert "rollout of &lt;b&gt;" in page and "biofm x" in page
