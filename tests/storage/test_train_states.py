"""The state of a training run comes back exactly, and one that does not fit is refused."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax import sharding
from rsynth_jax.storage import train_states
from rsynth_jax.training.state import TrainState


def state(optimizer=None, width=3) -> TrainState:
    rng = np.random.default_rng(0)
    variables = {
        "params": {"w": jnp.array(rng.normal(size=(4, width)), jnp.float32)},
        "batch_stats": {"mean": jnp.array(rng.normal(size=width), jnp.float32)},
    }
    opt_state = (optax.sgd(0.1, momentum=0.9) if optimizer is None else optimizer).init(variables["params"])
    return TrainState(
        jnp.array(7, jnp.int32),
        variables,
        jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), opt_state),
        jax.tree.map(lambda leaf: leaf / 3, variables),
    )


def assert_same(one: TrainState, other: TrainState) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert_array_equal(a, b)


def test_a_state_comes_back_exactly(tmp_path):
    before = state()
    train_states.save_state(tmp_path, before)
    assert_same(train_states.restore_state(tmp_path, jax.tree.map(jnp.zeros_like, before)), before)


def test_a_state_comes_back_where_the_run_keeps_it(tmp_path):
    place = sharding.over_devices(8).place
    train_states.save_state(tmp_path, state())
    restored = train_states.restore_state(tmp_path, place(state()))
    for leaf in jax.tree.leaves(restored):
        assert len(leaf.sharding.device_set) == 8 and leaf.sharding.is_fully_replicated


def test_the_newest_state_is_the_one_that_comes_back(tmp_path):
    for step in (9, 10, 100):
        train_states.save_state(tmp_path, state()._replace(step=jnp.array(step, jnp.int32)))
    assert int(train_states.restore_state(tmp_path, state()).step) == 100


def test_a_state_saved_twice_is_no_error(tmp_path):
    for _ in range(2):
        train_states.save_state(tmp_path, state())
    assert_same(train_states.restore_state(tmp_path, state()), state())


@pytest.mark.parametrize(
    "other",
    [state(width=5), state(optax.adamw(0.1)), state(optax.sgd(0.1))],
    ids=["another network", "another optimizer", "no momentum"],
)
def test_a_state_of_another_network_or_optimizer_is_refused(tmp_path, other):
    train_states.save_state(tmp_path, state())
    with refused(match=r"checkpoints/7 does not fit this recipe: ."):
        train_states.restore_state(tmp_path, other)


def test_a_state_of_another_network_is_refused_before_any_of_it_is_read(tmp_path, monkeypatch):
    """Orbax leaves coroutines behind where shapes differ; at exit they complain over many lines."""
    train_states.save_state(tmp_path, state())
    monkeypatch.setattr(
        orbax.checkpoint.CheckpointManager, "restore", lambda *a, **k: pytest.fail("it was read")
    )
    with refused(match=r"checkpoints/7 does not fit this recipe: ."):
        train_states.restore_state(tmp_path, state(width=5))


@pytest.mark.parametrize("folder", ["", "checkpoints"])
def test_nothing_to_resume_is_refused(tmp_path, folder):
    (tmp_path / "run" / folder).mkdir(parents=True)
    with refused(match="nothing to resume in .*run"):
        train_states.restore_state(tmp_path / "run", state())


def test_a_half_written_state_is_passed_over(tmp_path):
    train_states.save_state(tmp_path, state())
    (tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir()
    assert int(train_states.restore_state(tmp_path, state()).step) == 7


def broken(run, step, part=None):
    """Save a state of a step, and cut the files whose path has the part; without one, remove them all."""
    train_states.save_state(run, state()._replace(step=jnp.array(step, jnp.int32)))
    folder = run / "checkpoints" / str(step)
    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in files:
        if part is None:
            file.unlink()
        elif part in str(file.relative_to(folder)):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("part", [None, "default/_METADATA", "default/d/", "default/manifest", "_sharding"])
def test_the_newest_whole_state_comes_back_where_newer_ones_are_broken_and_their_steps_are_saved_again(
    tmp_path, part
):
    train_states.save_state(tmp_path, state())
    broken(tmp_path, 9, part)
    lines = []
    assert_same(train_states.restore_state(tmp_path, state(), lines.append), state())
    assert lines == [f"{tmp_path}/checkpoints/9 is broken: going on from step 7 instead"]
    for step in (8, 9):
        train_states.save_state(tmp_path, state()._replace(step=jnp.array(step, jnp.int32)))
    assert int(train_states.restore_state(tmp_path, state()).step) == 9


def written(run) -> list:
    """The files of step 7, whose digests are in one of them."""
    train_states.save_state(run, state())
    return sorted(file for file in (run / "checkpoints" / "7").rglob("*") if file.is_file())


def test_a_state_with_any_byte_of_its_files_changed_is_broken(tmp_path):
    paths, rng = written(tmp_path), np.random.default_rng(0)
    assert {path.name for path in paths} >= {"SHA256SUMS", "_METADATA"}
    for path in paths:
        content = path.read_bytes()
        for place in rng.integers(0, len(content), 40 if "/d/" in str(path) else 5).tolist():
            changed = bytearray(content)
            changed[place] ^= int(rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 255]))
            path.write_bytes(changed)
            with pytest.raises((ValueError, KeyError)):
                train_states._check_whole(tmp_path / "checkpoints" / "7")
        path.write_bytes(content)
    assert_same(train_states.restore_state(tmp_path, state()), state())


@pytest.mark.parametrize("change", ["one byte", "missing", "more", "cut", "no line"])
def test_a_changed_step_is_renamed_and_the_one_before_is_taken(tmp_path, change):
    train_states.save_state(tmp_path, state()._replace(step=jnp.array(6, jnp.int32)))
    paths = written(tmp_path)
    sums = tmp_path / "checkpoints/7/SHA256SUMS"
    array = max(paths, key=lambda path: path.stat().st_size)
    if change == "one byte":
        array.write_bytes(bytes([array.read_bytes()[0] ^ 1]) + array.read_bytes()[1:])
    elif change == "missing":
        (tmp_path / "checkpoints/7/default/_sharding").unlink()
    elif change == "more":
        array.with_name("another").touch()
    else:
        lines = sums.read_text().splitlines(keepends=True)
        sums.write_text("" if change == "cut" else "".join(lines[1:]))
    said = []
    assert int(train_states.restore_state(tmp_path, state(), said.append).step) == 6
    assert said == [f"{tmp_path}/checkpoints/7 is broken: going on from step 6 instead"]
    assert (tmp_path / "checkpoints/7.broken").is_dir()


def test_a_step_without_digests_of_an_older_or_stopped_run_is_restored_and_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as stopped:
        stopped.setattr(train_states.digests, "write_sums", lambda folder: (folder / ".left").touch())
        train_states.save_state(tmp_path, state())
    assert not (tmp_path / "checkpoints/7/SHA256SUMS").exists()
    assert_same(train_states.restore_state(tmp_path, state()), state())
    for step in (8, 9):
        train_states.save_state(tmp_path, state()._replace(step=jnp.array(step, jnp.int32)))
        (tmp_path / f"checkpoints/{step}/.DS_Store").touch()
    assert int(train_states.restore_state(tmp_path, state()).step) == 9
    steps = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert steps == {"8", "9"}


def test_a_run_without_a_whole_state_is_refused_by_its_folder_and_left_as_it_is(tmp_path):
    broken(tmp_path, 8)
    broken(tmp_path, 9, "default/d/")
    with refused(match=f"nothing to resume in {tmp_path}: checkpoints has no whole checkpoint"):
        train_states.restore_state(tmp_path, state())
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"8", "9"}


class Nested(NamedTuple):
    """A state that holds another."""

    inner: TrainState
    images: jax.Array

    @property
    def step(self) -> jax.Array:
        return self.inner.step


def test_a_state_inside_a_state_comes_back_exactly(tmp_path):
    before = Nested(state(), jnp.ones((2, 3)))
    train_states.save_state(tmp_path, before)
    after = train_states.restore_state(tmp_path, jax.tree.map(jnp.zeros_like, before))
    assert int(after.step) == 7
    assert_same(after, before)
