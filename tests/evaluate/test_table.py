import numpy as np
import pytest
from toy_results import result

from biofm_jax.evaluate.metrics import Score
from biofm_jax.evaluate.table import (
    HEADER,
    Summary,
    aggregate,
    rows_by_task,
    rows_to_table,
    summary_text,
    to_markdown,
    with_interval,
)


def test_seeds_become_one_row_with_both_uncertainties():
    results = [result(seed=seed) for seed in (2, 0, 1)]
    (row,) = aggregate(results)
    assert row.seeds == (0, 1, 2)
    values = [r.score.value for r in results]
    assert row.value.score.value == pytest.approx(np.mean(values))
    assert row.value.deviation == pytest.approx(np.std(values, ddof=1))
    assert row.value.score.low < row.value.score.value < row.value.score.high
    # The interval of the mean is over items, not over seeds: one seed alone has one too.
    (single,) = aggregate(results[:1])
    assert single.value.deviation is None
    assert single.value.score == results[0].score
    assert single.control.score == results[0].control


def test_tasks_methods_models_and_data_are_kept_apart():
    results = [
        result(),
        result(task="another"),
        result(method="finetune"),
        result(model="x"),
        result(data="f" * 16),
        result(seed=1),
    ]
    rows = aggregate(results)
    assert len(rows) == 5
    assert sorted(len(row.seeds) for row in rows) == [1, 1, 1, 1, 2]


def test_numbers_in_names_are_sorted_as_numbers():
    methods = ["probe", "probe@0.3%", "probe@3%", "probe@10%", "probe@4shot", "probe@16shot"]
    rows = aggregate([result(method=method) for method in reversed(methods)])
    assert [row.method for row in rows] == [
        "probe",
        "probe@0.3%",
        "probe@3%",
        "probe@4shot",
        "probe@10%",
        "probe@16shot",
    ]
    sizes = aggregate([result(model=f"esm2_{size}") for size in ("35M", "150M", "8M")])
    assert [row.model for row in sizes] == ["esm2_8M", "esm2_35M", "esm2_150M"]


def test_table_shows_baseline_control_and_only_comparable_numbers():
    header, (cells,) = rows_to_table(aggregate([result()]))
    assert header == HEADER and len(cells) == len(HEADER)
    shown = dict(zip(header, cells))
    assert shown["metric"] == "RMSE ↓ (kcal/mol)"
    assert shown["baseline"].startswith("flat ")
    assert shown["comparable published"] == "Same | protocol 0.810"
    assert "[" in shown["random-initialised control"]
    (_, (bare,)) = rows_to_table(aggregate([result(control=None, published=())]))
    assert bare[-2:] == ("not run", "none")


def test_narrow_table_sets_control_and_floor_under_the_model():
    rows = aggregate([result(), result(method="finetune", control=None), result(task="another")])
    (_, other), (title, lines) = rows_by_task(rows)
    assert title == "toy: RMSE ↓ (kcal/mol), 30 test items, 1 seed\nby hand"
    assert len(other) == 4
    shown = [(line["model"], line["adaptation"]) for line in lines]
    assert shown == [
        ("runs/toy", "finetune"),
        ("random-initialised control", "finetune"),
        ("runs/toy", "probe"),
        ("random-initialised control", "probe"),
        ("flat", "baseline"),
        ("Same | protocol", "published"),
    ]
    values = [line["value [95 %]"] for line in lines]
    assert values[1] == "not run" and values[5] == "0.810"
    assert all("[" in values[i] for i in (0, 2, 3, 4))


def floor(method="baseline", **changes):
    return result(model="flat", method=method, control=None, baselines={}, **changes)


def test_baselines_are_a_column_and_not_rows():
    few = [result(method="probe@3%", seed=seed) for seed in range(2)]
    few += [floor("baseline@3%", seed=seed) for seed in range(2)]
    rows = aggregate([result(), floor(), *few, result(method="knn@4shot")])
    header, cells = rows_to_table(rows)
    column = header.index("baseline")
    shown = {line[1]: line[column] for line in cells}
    assert list(shown) == ["knn@4shot", "probe", "probe@3%"]
    value = {row.method: row.value for row in rows if row.model == "flat"}
    assert shown["probe"] == f"flat {with_interval(rows[-1].baselines['flat'])}"
    assert shown["probe@3%"] == f"flat {summary_text(value['baseline@3%'])}"
    assert " sd " in shown["probe@3%"] and shown["knn@4shot"].endswith("] with all labels")
    ((title, lines),) = rows_by_task(rows)
    names = [(line["model"], line["adaptation"]) for line in lines]
    assert names.count(("flat", "baseline")) == 1 and ("flat", "baseline@3%") in names
    assert title.startswith("toy: ") and len(names) == 3 * 2 + 2 + 1


def test_baselines_of_several_folders_count_once():
    rows = aggregate([floor(), floor(), floor("baseline@3%"), floor("baseline@3%", seed=1)])
    assert [(row.method, row.seeds) for row in rows] == [
        ("baseline", (0,)),
        ("baseline@3%", (0, 1)),
    ]


def test_a_task_with_baselines_only_has_them_as_rows():
    rows = aggregate([floor(), floor("baseline@3%"), result(task="other"), floor(task="other")])
    header, cells = rows_to_table(rows)
    assert [line[:3] for line in cells] == [
        ("other", "probe", "runs/toy"),
        ("toy", "baseline", "flat"),
        ("toy", "baseline@3%", "flat"),
    ]
    assert cells[1][header.index("baseline")] == ""
    (_, _), (title, lines) = rows_by_task(rows)
    assert title.startswith("toy: RMSE") and len(lines) == 3
    assert [line["adaptation"] for line in lines] == ["baseline", "baseline@3%", "published"]


def test_markdown_escapes_bars():
    lines = to_markdown(aggregate([result(), result(seed=1)])).splitlines()
    assert len(lines) == 3
    assert "Same \\| protocol" in lines[2]
    assert all(line.replace("\\|", "").count("|") == len(HEADER) + 1 for line in lines)


def test_text_of_a_summary():
    assert summary_text(Summary(Score(0.5, 0.25, 0.75), None)) == "0.500 [0.250, 0.750]"
    assert summary_text(Summary(Score(12.5, 10.0, 15.0), 0.1)) == ("12.50 [10.00, 15.00] sd 0.100")
