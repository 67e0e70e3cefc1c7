import io

import pytest
from matplotlib.image import imread
from pictures import is_cut
from toy_results import result

from biofm_jax.evaluate.comparison import Entry, Panel, comparison_figure, panel_figure
from biofm_jax.evaluate.metrics import Score
from biofm_jax.evaluate.table import aggregate

LONG = "objective.rate=0.15, model.layers=2, data.fraction=0.3"


def entries(*names):
    return [
        Entry(name, Score(1.0 + i, 0.9 + i, 1.1 + i), (1.0 + i,)) for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("names", [("a", "b"), (LONG, "masked"), ("a" * 90,)])
@pytest.mark.parametrize("unit", ["RMSE", "nats per target ↓ (mean ± sd over seeds)", "x" * 80])
@pytest.mark.parametrize("panels", [1, 3])
def test_no_name_and_no_label_is_cut(names, unit, panels):
    png = panel_figure([Panel("held-out loss", unit, entries(*names))] * panels)
    assert not is_cut(png)


def test_the_axis_keeps_its_width_beside_long_names():
    short, long = (
        imread(io.BytesIO(panel_figure([Panel("loss", "nats", entries(name, "b"))])), "png")
        for name in ("a", LONG)
    )
    assert long.shape[1] > 1.5 * short.shape[1] and long.shape[0] == short.shape[0]


def test_tasks_side_by_side():
    rows = aggregate(
        [
            result(task=task, model=model, method=method, seed=seed)
            for task in ("esol", "lipophilicity")
            for model in (LONG, "runs/other")
            for method in ("probe", "finetune")
            for seed in (0, 1)
        ]
    )
    assert not is_cut(comparison_figure(rows))


def test_a_cut_picture_is_seen():
    from matplotlib.figure import Figure

    figure, buffer = Figure(figsize=(3, 2)), io.BytesIO()
    figure.text(0.9, 0.5, "too far to the right")
    figure.savefig(buffer, format="png")
    assert is_cut(buffer.getvalue())
