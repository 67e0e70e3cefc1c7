import json
import logging
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
from jax.sharding import NamedSharding, PartitionSpec
from toy_batches import batch_for, program

from biofm_jax.train.checkpoint import CheckpointError, Checkpoints, _digest, checksum
from biofm_jax.train.mesh import MeshSpec


def state_of(step=0):
    """A tree with every dtype that a state may hold, other numbers at every step."""
    rng = np.random.default_rng(step)
    return {
        "float32": jnp.asarray(rng.normal(size=(16, 8)), jnp.float32),
        "bfloat16": jnp.asarray(rng.normal(size=(8,)), jnp.bfloat16),
        "float16": jnp.asarray(rng.normal(size=(3,)), jnp.float16),
        "int32": jnp.asarray(step, jnp.int32),
        "uint32": jnp.asarray(rng.integers(0, 2**32, 5), jnp.uint32),
        "uint8": jnp.asarray(rng.integers(0, 256, 7), jnp.uint8),
        "bool": jnp.asarray(rng.random(9) < 0.5),
        "special": jnp.asarray([np.nan, np.inf, -0.0, 1e-45], jnp.float32),
    }


def record_of(step):
    return {"data": {"position": 1000 + step}, "experiment": {"name": "toy"}}


def templates(tree):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return shapes, jax.tree.map(lambda _: one, shapes)


def assert_bitwise(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def write(folder, steps=(1, 2, 3), losses=None, keep=3):
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        loss = None if losses is None else losses.get(step)
        checkpoints.save(step, state_of(step), record_of(step), loss)
    checkpoints.close()


def read(folder, step=None):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(*templates(state_of()), step)
    finally:
        checkpoints.close()


def saved(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def test_what_is_read_is_bitwise_what_was_saved(tmp_path):
    write(tmp_path)
    found = read(tmp_path)
    assert found.step == 3 and not found.skipped
    assert found.record["data"] == {"position": 1003}
    assert found.record["experiment"] == {"name": "toy"}
    assert_bitwise(found.state, state_of(3))
    assert_bitwise(read(tmp_path, step=2).state, state_of(2))


def test_an_empty_folder_holds_nothing(tmp_path):
    assert read(tmp_path) is None


def test_the_last_and_the_best_are_kept(tmp_path):
    write(tmp_path, range(1, 7), {1: 0.9, 2: 0.3, 3: 0.7, 4: 0.5, 6: 0.8}, keep=2)
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.steps() == [2, 5, 6]
    assert checkpoints.best() == 2
    # A resumed run goes on keeping the best of the run before it.
    for step, loss in ((7, 0.6), (8, None), (9, 0.4), (10, None), (11, None)):
        checkpoints.save(step, state_of(step), record_of(step), loss)
    checkpoints.close()
    assert saved(tmp_path) == [2, 10, 11]
    write(tmp_path, [12, 13, 14], {12: 0.1}, keep=2)
    assert saved(tmp_path) == [12, 13, 14]


def test_without_validation_losses_there_is_no_best(tmp_path):
    write(tmp_path, range(1, 5), keep=2)
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.steps() == [3, 4] and checkpoints.best() is None
    checkpoints.close()


def test_a_save_in_the_background_holds_the_state_of_its_step(tmp_path):
    """The next step donates the state, and its buffers are written over at once."""
    checkpoints = Checkpoints(tmp_path, keep=10)
    advance = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf * 1.5 + 1, x), donate_argnums=0)
    state = {"w": jnp.arange(200_000, dtype=jnp.float32), "b": jnp.ones(64)}
    want = {}
    for step in range(1, 6):
        state = advance(state)
        want[step] = jax.tree.map(np.array, state)
        checkpoints.save(step, state, record_of(step))
    for _ in range(20):
        state = advance(state)
    checkpoints.wait()
    for step, kept in want.items():
        assert_bitwise(checkpoints.restore(*templates(state), step).state, kept)
    checkpoints.close()


def test_restored_onto_another_mesh_the_next_loss_is_the_same(tmp_path):
    toy, other = program("masked"), program("masked", sizes=(1, 8, 1, 1))
    state, _ = toy.step(toy.start(), batch_for("masked"))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, record_of(1))
    _, want = toy.step(state, batch_for("masked", seed=1))
    checkpoints.wait()
    found = checkpoints.restore(other.built.shapes, other.built.shardings)
    checkpoints.close()
    kernel = found.state.params["blocks"]["feedforward"]["up"]["kernel"]
    assert len(kernel.sharding.device_set) == 8 and not kernel.sharding.is_fully_replicated
    _, got = other.step(found.state, other.put(batch_for("masked", seed=1)))
    assert float(got["loss"]) == pytest.approx(float(want["loss"]), rel=1e-5)
    assert float(got["gradient_norm"]) == pytest.approx(float(want["gradient_norm"]), rel=1e-5)


def read_from_disk(read):
    """The result of a function, and the bytes that it read from files."""

    def so_far():
        name = "/tensorstore/kvstore/file/bytes_read"
        return tensorstore.experimental_collect_matching_metrics(name)[0]["values"][0]["value"]

    before = so_far()
    return read(), so_far() - before


def test_parameters_alone_are_read_by_another_mesh(tmp_path):
    toy, other = program("masked", sizes=(1, 8, 1, 1)), program("masked")
    state, _ = toy.step(toy.start(), batch_for("masked"))
    want, kept = jax.device_get(state.params), jax.device_get(state.opt_state)
    writer = Checkpoints(tmp_path)
    writer.save(1, state, record_of(1))
    writer.close()

    checkpoints, where = Checkpoints(tmp_path), (other.built.shapes, other.built.shardings)
    found, few = read_from_disk(lambda: checkpoints.restore(*where, only="params"))
    assert_bitwise(found.state.params, want)
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(found.state.params))
    assert found.record["data"] == record_of(1)["data"]
    # Nothing else was made: neither moments nor the step.
    assert {type(leaf) for leaf in jax.tree.leaves(found.state.opt_state)} == {type(...)}
    assert found.state.step is ...
    # Nor read: Adam's moments are twice the parameters, less blocks of zeros, which are no files.
    whole, all_ = read_from_disk(lambda: checkpoints.restore(*where))
    assert_bitwise(whole.state.opt_state, kept)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(want))
    assert all_ - few > 1.5 * size and few < 1.5 * size


def test_of_parameters_alone_too_a_flipped_bit_is_noticed(tmp_path):
    toy = program("masked")
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, toy.start(), record_of(1))
    checkpoints.wait()
    record = tmp_path / "1" / "record" / "metadata"
    saved = json.loads(record.read_text())
    first = 2  # behind `step` and `seed` come the parameters
    saved["checksum"][first] ^= 1
    saved["digest"] = _digest(saved)
    record.write_text(json.dumps(saved))
    with pytest.raises(CheckpointError, match="checksum of the arrays"):
        checkpoints.restore(toy.built.shapes, toy.built.shardings, only="params")
    checkpoints.close()


class TestDamage:
    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("whole")
        write(folder, losses={1: 0.1, 3: 0.2})
        return folder

    @pytest.fixture
    def folder(self, whole, tmp_path):
        import shutil

        shutil.copytree(whole, tmp_path / "c")
        return tmp_path / "c"

    @staticmethod
    def files(folder, step=3):
        return sorted(path for path in (folder / str(step)).rglob("*") if path.is_file())

    def damage(self, path, how):
        content = bytearray(path.read_bytes())
        if how == "deleted":
            path.unlink()
        elif how == "truncated":
            path.write_bytes(content[: len(content) // 2])
        else:
            content[len(content) // 2] ^= 0x04
            path.write_bytes(content)

    @pytest.mark.parametrize("how", ["deleted", "truncated", "flipped"])
    def test_a_damaged_file_is_noticed_or_does_not_matter(self, whole, tmp_path, how, caplog):
        """Every file of the newest checkpoint in turn: never is a wrong state returned."""
        import shutil

        noticed = set()
        for number, path in enumerate(self.files(whole)):
            folder = tmp_path / str(number)
            shutil.copytree(whole, folder)
            self.damage(folder / path.relative_to(whole), how)
            caplog.clear()
            with caplog.at_level(logging.WARNING, "biofm_jax"):
                found = read(folder)
            assert_bitwise(found.state, state_of(found.step))
            assert found.record["data"] == record_of(found.step)["data"]
            if found.step == 3:
                continue
            noticed.add(path.relative_to(whole / "3").parts[0])
            assert found.step == 2 and list(found.skipped) == [3]
            assert "3 is damaged" in caplog.text
            assert "newest whole checkpoint, step 2" in caplog.text
        assert {"state", "record"} <= noticed

    def test_the_folder_of_the_newest_step_is_empty(self, folder):
        for path in self.files(folder):
            path.unlink()
        assert read(folder).step == 2

    def test_two_newest_are_damaged(self, folder):
        for step in (2, 3):
            for path in self.files(folder, step):
                self.damage(path, "truncated")
        found = read(folder)
        assert found.step == 1 and sorted(found.skipped) == [2, 3]

    def test_all_are_damaged(self, folder):
        for step in (1, 2, 3):
            for path in self.files(folder, step):
                self.damage(path, "truncated")
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read"):
            read(folder)

    def test_passed_over_checkpoints_can_be_dropped_and_written_anew(self, folder):
        for path in self.files(folder):
            self.damage(path, "truncated")
        checkpoints = Checkpoints(folder)
        found = checkpoints.restore(*templates(state_of()))
        checkpoints.drop_after(found.step)
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(3, state_of(3), record_of(3))
        checkpoints.close()
        assert_bitwise(read(folder).state, state_of(3))


def test_the_checksum_is_the_same_on_every_mesh_and_off_for_one_bit():
    values = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    want = np.asarray(checksum({"x": jnp.asarray(values)}))
    mesh = MeshSpec(data=4, fsdp=2).build()
    spread = jax.device_put(values, NamedSharding(mesh, PartitionSpec("fsdp", "data")))
    np.testing.assert_array_equal(checksum({"x": spread}), want)
    for bit in range(32):
        other = values.copy()
        other.view(np.uint32)[3, 3] ^= np.uint32(1) << np.uint32(bit)
        assert np.asarray(checksum({"x": jnp.asarray(other)})) != want


FULL_DISK = """
    import json, resource, signal, sys
    import jax.numpy as jnp
    from biofm_jax.train.checkpoint import CheckpointError, Checkpoints

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes fail with EFBIG instead
    checkpoints = Checkpoints(sys.argv[1])
    state = {"w": jnp.arange(500_000, dtype=jnp.float32) ** 0.5}
    checkpoints.save(1, state, {"data": 1})
    checkpoints.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        checkpoints.save(2, state, {"data": 2})
        checkpoints.wait()
        print("no error")
    except CheckpointError as error:
        print(error)
"""


def test_a_failed_write_leaves_the_checkpoint_before_it(tmp_path):
    """The file size limit stands in for a full disk: the same failing write."""
    script = textwrap.dedent(FULL_DISK)
    folder = tmp_path / "checkpoints"
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=100
    )
    assert "saving a checkpoint" in done.stdout, done.stdout + done.stderr[-2000:]
    assert "the checkpoint of step 1 is whole" in done.stdout
    checkpoints = Checkpoints(folder)
    tree = {"w": jnp.arange(500_000, dtype=jnp.float32) ** 0.5}
    found = checkpoints.restore(*templates(tree))
    assert found.step == 1 and not found.skipped
    np.testing.assert_array_equal(found.state["w"], tree["w"])
    checkpoints.save(2, tree, {"data": 2})  # the disk has space again
    checkpoints.wait()
    assert checkpoints.steps() == [1, 2]
    assert json.dumps(checkpoints.restore(*templates(tree)).record["data"]) == "2"
    checkpoints.close()
