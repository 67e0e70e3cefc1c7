"""create.sh and delete.sh: the exact commands, zone after zone, and nothing without consent."""

import pytest

PLACE = ["--project=my-project", "--zone=us-west4-a", "--quiet"]


def test_a_queued_spot_slice(cloud):
    done = cloud.run("create", "--yes")
    assert cloud.called("create") == [
        ["compute", "tpus", "queued-resources", "create", "esm2", "--node-id=esm2",
         "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite",
         "--valid-until-duration=2h", "--spot", *PLACE]
    ]  # fmt: skip
    assert cloud.called("describe")[-2:] == [
        ["compute", "tpus", "queued-resources", "describe", "esm2", "--format=value(state.state)",
         *PLACE],
        ["compute", "tpus", "tpu-vm", "describe", "esm2", "--format=value(state)", *PLACE],
    ]  # fmt: skip
    assert "ready in us-west4-a" in done.stderr


def test_slices_that_train_as_one_run(cloud):
    cloud.configure(SLICES="2", ACCELERATOR="v5p-128", SPOT="no", NETWORK="my net; x")
    done = cloud.run("create", "--yes")
    assert cloud.called("create") == [
        ["compute", "tpus", "queued-resources", "create", "esm2", "--node-count=2",
         "--node-prefix=esm2", "--accelerator-type=v5p-128", "--runtime-version=v2-alpha-tpuv5",
         "--valid-until-duration=2h", "--network=my net; x", *PLACE]
    ]  # fmt: skip
    # 64 chips a slice: v5p is named by its cores
    assert "about $537.60 an hour, $12902 a day (128 chips x $4.20)" in done.stderr
    cloud.configure(SLICES="2", QUEUED="no")
    assert "needs QUEUED = yes" in cloud.run("create", "--yes", code=2).stderr


@pytest.mark.parametrize(
    "accelerator, runtime, price",
    [
        ("v4-8", "tpu-ubuntu2204-base", "4 chips x $0.97"),
        ("v5p-8", "v2-alpha-tpuv5", "4 chips x $2.10"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite", "8 chips x $0.60"),
        ("v6e-8", "v2-alpha-tpuv6e", "8 chips x $1.35"),
    ],
)
def test_a_slice_at_once(cloud, accelerator, runtime, price):
    cloud.configure(QUEUED="no", ACCELERATOR=accelerator)
    done = cloud.run("create", "--yes")
    assert cloud.called("create") == [
        ["compute", "tpus", "tpu-vm", "create", "esm2", f"--accelerator-type={accelerator}",
         f"--version={runtime}", "--spot", *PLACE]
    ]  # fmt: skip
    assert price in done.stderr


def zones_tried(cloud) -> list[str]:
    return [w[7:] for words in cloud.called("create") for w in words if w.startswith("--zone=")]


def test_a_full_zone_is_skipped(cloud):
    cloud.configure(QUEUED="no")
    cloud.zones({"us-west4-a": "full"})
    assert "ready in us-central1-a" in cloud.run("create", "--yes").stderr
    assert zones_tried(cloud) == ["us-west4-a", "us-central1-a"]


def test_full_everywhere_is_tried_so_many_times(cloud):
    cloud.configure(QUEUED="no")
    cloud.zones({"us-west4-a": "full", "us-central1-a": "full"})
    assert "after 2 rounds" in cloud.run("create", "--yes", "--rounds", "2", code=1).stderr
    assert zones_tried(cloud) == ["us-west4-a", "us-central1-a"] * 2


def test_another_error_stops_at_once(cloud):
    cloud.zones({"us-west4-a": "denied"})
    done = cloud.run("create", "--yes", code=1)
    assert "PERMISSION_DENIED" in done.stderr and "no other zone is tried" in done.stderr
    assert zones_tried(cloud) == ["us-west4-a"]


def test_a_request_that_lapses_is_removed(cloud):
    cloud.zones({"us-west4-a": "lapse"})
    done = cloud.run("create", "--yes")
    assert "lapsed in us-west4-a after 2h" in done.stderr
    assert cloud.called("delete") == [
        ["compute", "tpus", "queued-resources", "delete", "esm2", "--force", *PLACE]
    ]
    assert zones_tried(cloud) == ["us-west4-a", "us-central1-a"]


def test_a_name_that_is_taken_or_cannot_be_looked_up(cloud):
    cloud.up("us-central1-a")
    assert "there already" in cloud.run("create", "--yes", code=1).stderr
    cloud.zones({"us-west4-a": "unreachable", "us-central1-a": "unreachable"})
    assert "UNKNOWN" in cloud.run("create", "--yes", code=1).stderr
    assert cloud.called("create") == []


def test_the_price_is_shown_before_the_question(cloud):
    done = cloud.run("create", typed="esm3\n", code=2)
    assert done.stderr.index("about $9.60 an hour") < done.stderr.index("Type esm2")
    assert "2026" in done.stderr  # the date of the table
    assert "nothing was done" in done.stderr
    assert cloud.run("create", code=2) and cloud.called("create") == []  # no answer at all
    cloud.run("create", typed="esm2\n")
    assert len(cloud.called("create")) == 1


def test_another_price_table(cloud):
    table = cloud.here / "my prices.csv"
    table.write_text("# agreed on 2031-01-01\ngeneration,on_demand,spot\nv5e,1,0.5\nv4,1,\n")
    cloud.configure(PRICES=str(table))
    done = cloud.run("create", "--dry-run")
    assert "about $8.00 an hour" in done.stderr and "agreed on 2031-01-01" in done.stderr
    cloud.configure(PRICES=str(table), ACCELERATOR="v6e-8")
    assert "price unknown" in cloud.run("create", "--dry-run").stderr
    cloud.configure(PRICES="none.csv")
    assert "there is no price table none.csv" in cloud.run("create", "--dry-run", code=2).stderr


@pytest.mark.parametrize("typed", ["", "\n", "y\n", "esm\n", "yes\nesm2\n"])
def test_nothing_is_deleted_without_its_name(cloud, typed):
    cloud.up()
    assert "nothing was done" in cloud.run("delete", typed=typed, code=2).stderr
    assert cloud.called("delete") == [] and cloud.called("ssh") == []


def test_a_typed_name_deletes(cloud):
    cloud.up()
    cloud.run("delete", typed="esm2\n")
    assert len(cloud.called("delete")) == 1


@pytest.mark.parametrize("queued", ["yes", "no"])
def test_delete_stops_the_run_and_looks_again(cloud, queued):
    cloud.configure(QUEUED=queued)
    cloud.up()
    done = cloud.run("delete", "--yes")
    stop, delete = cloud.called("ssh")[-1], cloud.called("delete")[0]
    assert "--command=bash biofm_jax/tpu_setup/worker.sh stop esm2" in stop
    noun = ["queued-resources", "delete", "esm2", "--force"]
    if queued == "no":
        noun = ["tpu-vm", "delete", "esm2"]
    assert delete == ["compute", "tpus", *noun, *PLACE]
    assert "nothing of that name is left" in done.stderr
    assert "there is no esm2" in cloud.run("delete", "--yes").stderr
    assert not [words for words in cloud.calls() if words[0] == "storage"]


def test_delete_says_what_is_lost(cloud):
    cloud.up()
    assert "gs://my-bucket/runs/esm2 stays" in cloud.run("delete", code=2).stderr
    cloud.configure(WORKDIR="")
    assert "LOST" in cloud.run("delete", code=2).stderr
    cloud.zones({"us-west4-a": "unreachable"})
    assert "nothing was deleted" in cloud.run("delete", "--yes", code=1).stderr
