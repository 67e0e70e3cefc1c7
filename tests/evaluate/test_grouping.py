import numpy as np
import pytest
from toy_results import toy_task

from biofm_jax.errors import UserError
from biofm_jax.evaluate.grouping import bands, read_groups, with_groups


def test_bands_hold_about_equally_many():
    values = np.random.default_rng(0).gamma(2.0, 100.0, 999)
    found = bands(values)
    counts = np.unique(found, return_counts=True)[1]
    assert counts.tolist() == [333] * 3
    low = max(v for v, name in zip(values, found) if name.startswith("under"))
    high = min(v for v, name in zip(values, found) if name.endswith("and over"))
    middle = [v for v, name in zip(values, found) if " to " in name]
    assert low < min(middle) and max(middle) < high
    assert len(set(bands(values, 5))) == 5


def test_bands_by_hand_and_of_odd_columns():
    assert bands([1, 2, 3, 4, 5, 6]) == [
        "under 2.667", "under 2.667", "2.667 to 4.333", "2.667 to 4.333", "4.333 and over",
        "4.333 and over",
    ]  # fmt: skip
    assert bands([np.nan, 1.0, 9.0])[0] is None
    assert bands([np.nan]) == [None] and bands([]) == []
    assert bands([5.0, 5.0, np.nan]) == ["all", "all", None]
    assert bands([0.0] * 8 + [1.0, 2.0]) == ["all"] * 10  # both edges are the lowest value


def groups_file(tmp_path, text):
    path = tmp_path / "groups.csv"
    path.write_text(text)
    return path


def test_columns_of_a_file_reach_the_data(tmp_path):
    task = toy_task()
    lines = [f"item-{i},{'f' if i % 2 else 'm'},{20 + i},{i // 3},{i % 4}" for i in range(50)]
    path = groups_file(tmp_path, "id,sex,age,patient,stage\n" + "\n".join(lines) + "\n")
    columns = read_groups(path)
    assert columns["sex"]["item-1"] == "f" and len(columns["age"]) == 50
    data = with_groups(task.data(None), columns, ["patient"])
    assert data.groups["sex"][:3] == ["m", "f", "m"] and data.groups["sex"][50:] == [None] * 10
    assert len(set(data.groups["age"])) == 4  # three bands and None
    assert data.groups["patient"][3] == "1" and data.apart == ("patient",)  # no bands of patients
    assert set(data.groups["stage"]) == {"0", "1", "2", "3", None}
    assert data.metadata["age"][4] == "24"
    assert data.fingerprint() == task.data(None).fingerprint()


def test_a_byte_order_mark_and_quotes_are_read(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_text('id,site\n"item-1","Bern, north"\n', encoding="utf-8-sig")
    assert read_groups(path) == {"site": {"item-1": "Bern, north"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the header is empty"),
        ("name,sex\na,f\n", "a column 'id'"),
        ("id\na\n", "grouping columns"),
        ("id,sex,sex\na,f,m\n", "each once"),
        ("id,sex\na,f\nb\n", "line 3: 1 cells where the header has 2"),
        ("id,sex\na,f\na,m\n", "line 3: the id 'a' is there twice"),
    ],
)
def test_bad_files(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        read_groups(groups_file(tmp_path, text))


def test_bad_columns(tmp_path):
    data = toy_task().data(None)
    with pytest.raises(UserError, match="does not exist"):
        read_groups(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"no value for any of the 60 items; .* item-0, item-1"):
        with_groups(data, {"sex": {"other-1": "f"}})
    grouped = with_groups(data, {"sex": {"item-1": "f"}})
    with pytest.raises(UserError, match="rename that of the file"):
        with_groups(grouped, {"sex": {"item-1": "f"}})
    with pytest.raises(UserError, match="no grouping column 'patient'; there are sex"):
        with_groups(data, {"sex": {"item-1": "f"}}, ["patient"])
    with pytest.raises(UserError, match="no grouping column 'patient'; there are none"):
        with_groups(data, {}, ["patient"])
