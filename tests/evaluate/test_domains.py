from toy_results import result

from biofm_jax.evaluate.domains import (
    DOMAINS,
    OTHER,
    by_task,
    domain_of,
    grouped,
    modality_of,
    place_of,
)
from biofm_jax.evaluate.table import aggregate
from biofm_jax.evaluate.task import all_tasks


def test_a_modality_has_one_domain():
    held = sum(DOMAINS.values(), ())
    assert len(held) == len(set(held)) == 14
    assert (
        domain_of("protein") == "computational biology"
        and domain_of("ehr") == "clinical informatics"
    )
    assert domain_of("weather") == OTHER
    places = [place_of(name) for name in (*held, "weather")]
    assert places == list(range(15))


def test_every_task_has_a_domain():
    for task in all_tasks().values():
        assert domain_of(task.modality) != OTHER, task.name
    assert modality_of("esol") == "molecule" and modality_of("no such task") == OTHER


def test_rows_by_domain_modality_task_and_data():
    names = ("toy", "esol", "flip_gb1/sampled", "bbbp", "another")
    rows = aggregate(
        [
            *(result(task=name, method=m) for m in ("probe", "knn") for name in names),
            result(task="esol", data="f" * 16),
        ]
    )
    found = grouped(rows)
    assert [
        (domain, [(m, [task[0].task for task in tasks]) for m, tasks in modalities])
        for domain, modalities in found
    ] == [
        ("computational biology", [("protein", ["flip_gb1/sampled"])]),
        ("drug discovery", [("molecule", ["bbbp", "esol", "esol"])]),
        ("other", [("other", ["another", "toy"])]),
    ]
    tasks = by_task(rows)
    assert sum(map(len, tasks)) == len(rows)
    assert [len(task) for task in tasks] == [2, 2, 2, 1, 2, 2]
    assert grouped([]) == []
