"""Checkpoints: kept, verified, set aside when damaged."""

import gc
import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.engine.checkpoint import Checkpointer, best_step, find_steps, read_metadata, scores
from jaxseg.engine.state import TrainState
from jaxseg.errors import CheckpointError

SIZE = 20_000
# Orbax leaves coroutines behind when a file can't be read.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect():
    yield
    gc.collect()


def state_at(step: int, size: int = SIZE) -> TrainState:
    """A state whose numbers follow from its step."""
    numbers = jnp.arange(size, dtype=jnp.float32) * 0.5 + step
    params = {"head": {"kernel": numbers.reshape(-1, 4), "bias": numbers[:8] - 1}}
    return TrainState(jnp.int32(step), params, {"norm": {"mean": numbers[:5] + 2}}, (numbers[:9] * 2, jnp.int32(step)))


def save_all(folder, steps, metrics=None, **options):
    checkpoints = Checkpointer(folder, **options)
    for step in steps:
        checkpoints.save(state_at(step), (metrics or {}).get(step))
    checkpoints.close()


def restore(folder, said=None, **options):
    checkpoints = Checkpointer(folder, **options)
    try:
        return checkpoints.restore(state_at(0), say=(said if said is not None else []).append)
    finally:
        checkpoints.close()


def assert_equal(state, expected):
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path, at=None):
    content = bytearray(path.read_bytes())
    at = len(content) // 2 if at is None else at
    content[at] ^= 1
    path.write_bytes(content)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    save_all(folder, [2, 4], metrics={4: {"mIoU": 7.5, "IoU": {"a": 1.0, "b": None}}})
    return folder


@pytest.fixture
def damaged(two, tmp_path):
    return shutil.copytree(two, tmp_path / "checkpoints")


def test_the_newest_comes_back(two):
    said = []
    assert_equal(restore(two, said), state_at(4))
    assert said == []
    assert find_steps(two) == [2, 4]
    metadata = read_metadata(two, 4)
    assert metadata["metrics"] == {"mIoU": 7.5, "IoU": {"a": 1.0, "b": None}}
    assert {"variables/params/head/kernel", "variables/batch_stats/norm/mean", "training/opt_state/0"} <= set(
        metadata["checksums"]
    )


def test_nothing_there(tmp_path):
    assert restore(tmp_path / "none") is None
    assert find_steps(tmp_path / "no such folder") == []
    with pytest.raises(CheckpointError, match="no such folder holds no checkpoint"):
        best_step(tmp_path / "no such folder")


def test_a_flipped_byte_is_found_and_its_array_named(damaged):
    flip(largest_file(damaged / "4" / "variables"))
    said = []
    assert_equal(restore(damaged, said), state_at(2))
    (message,) = said
    assert str(damaged / "4") in message
    assert "the checksum of variables/params/head/kernel is wrong" in message
    assert "before it" in message
    assert sorted(path.name for path in damaged.iterdir()) == ["2", "damaged-4"]


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda folder: truncate(largest_file(folder / "variables")), "variables can't be read"),
        (lambda folder: truncate(largest_file(folder / "training")), "training can't be read"),
        (lambda folder: largest_file(folder).unlink(), "variables can't be read"),
        (lambda folder: shutil.rmtree(folder / "training"), "training can't be read"),
        (lambda folder: shutil.rmtree(folder / "metadata"), "its metadata can't be read"),
        (lambda folder: truncate(folder / "metadata" / "metadata"), "its metadata can't be read"),
        (lambda folder: (folder / "metadata" / "metadata").write_text("[]"), "its metadata can't be read"),
        (lambda folder: (folder / "metadata" / "metadata").write_text('{"step": 4}'), "its metadata can't be read"),
        (lambda folder: (folder / "metadata" / "metadata").write_bytes(b"\xff\xfe"), "its metadata can't be read"),
    ],
)
def test_damage_is_found_and_the_one_before_is_used(damaged, harm, named):
    harm(damaged / "4")
    said = []
    assert_equal(restore(damaged, said), state_at(2))
    assert len(said) == 1
    assert str(damaged / "4") in said[0]
    assert named in said[0]


def test_any_file_damaged_is_either_found_or_harmless(two, tmp_path):
    """Nothing but the saved numbers, or those of the step before, ever comes out."""
    harmless = set()
    files = sorted(path.relative_to(two / "4") for path in (two / "4").rglob("*") if path.is_file())
    assert len(files) > 10
    for number, name in enumerate(files):
        for harm in (flip, truncate, lambda path: path.unlink()):
            if harm is flip and not (two / "4" / name).stat().st_size:
                continue
            folder = shutil.copytree(two, tmp_path / "checkpoints")
            harm(folder / "4" / name)
            said = []
            state = restore(folder, said)
            if said:
                assert_equal(state, state_at(2))
            else:
                harmless.add(number)
                assert_equal(state, state_at(4))
            shutil.rmtree(folder)
    assert len(harmless) < len(files)


def test_a_step_that_was_damaged_can_be_saved_again(damaged):
    flip(largest_file(damaged / "4"))
    for _ in range(2):  # a second time there is a damaged-4 already
        checkpoints = Checkpointer(damaged)
        state = checkpoints.restore(state_at(0), say=lambda _: None)
        assert int(state.step) == 2
        checkpoints.save(state_at(4))
        checkpoints.close()
        assert_equal(restore(damaged), state_at(4))
        flip(largest_file(damaged / "4"))
    assert {path.name for path in damaged.iterdir()} >= {"damaged-4", "damaged-4.1"} - {"4"}


def test_all_damaged(damaged):
    for step in (2, 4):
        flip(largest_file(damaged / str(step)))
    said = []
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole: steps \[4, 2\] are all damaged"):
        restore(damaged, said)
    assert len(said) == 2
    assert sorted(path.name for path in damaged.iterdir()) == ["2", "4"]


def test_another_model_is_not_taken_for_it(two):
    checkpoints = Checkpointer(two)
    with pytest.raises(CheckpointError):
        checkpoints.restore(state_at(0, size=100), say=lambda _: None)
    checkpoints.close()
    assert find_steps(two) == [2, 4]


def test_a_half_written_one_is_ignored_and_removed(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    shutil.copytree(folder / "4", folder / "6.orbax-checkpoint-tmp")
    assert find_steps(folder) == [2, 4]
    assert_equal(restore(folder), state_at(4))
    assert not (folder / "6.orbax-checkpoint-tmp").exists()


def test_the_latest_and_the_best_are_kept(tmp_path):
    scores = {4: 30.0, 8: 90.0, 12: 50.0, 16: 50.0, 20: None}
    save_all(tmp_path, range(2, 21, 2), {step: {"mIoU": score} for step, score in scores.items()}, keep=2, keep_best=1)
    assert find_steps(tmp_path) == [8, 18, 20]
    assert best_step(tmp_path) == 8


def test_the_best_is_kept_across_starts(tmp_path):
    for first in range(2, 21, 4):
        steps = (first, first + 2)
        save_all(tmp_path, steps, {4: {"mIoU": 70.0}, 10: {"mIoU": 60.0}, 18: {"mIoU": 10.0}}, keep=1, keep_best=1)
        assert find_steps(tmp_path) == ([4] if first == 2 else [4, first + 2])
        assert best_step(tmp_path) == 4


def test_the_best_of_a_class(tmp_path):
    metrics = {2: {"mIoU": 1.0, "IoU": {"road": 90.0}}, 4: {"mIoU": 2.0, "IoU": {"road": 80.0}}, 6: {}}
    save_all(tmp_path, (2, 4, 6, 8), metrics, keep=1, keep_best=1, metric="IoU/road")
    assert find_steps(tmp_path) == [2, 8]
    assert best_step(tmp_path, "IoU/road") == 2
    assert scores(tmp_path, "IoU/road") == {2: 90.0, 8: None}


def test_no_best(tmp_path):
    save_all(tmp_path, range(1, 6), {2: {"mIoU": 50.0}}, keep=3, keep_best=0)
    assert find_steps(tmp_path) == [3, 4, 5]
    assert best_step(tmp_path) == 5


def test_the_best_with_unreadable_metadata_is_said(damaged, caplog):
    (damaged / "4" / "metadata" / "metadata").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert best_step(damaged) == 4  # none has a score left, so the latest; reading it fails
    assert "its metadata can't be read" in caplog.text


def test_saving_goes_on_beside_the_steps(tmp_path):
    """Steps that donate the state while it is being written do not change what is written."""
    step = jax.jit(
        lambda state: state.replace(
            step=state.step + 1, params=jax.tree.map(lambda leaf: leaf * 1.5 + 1, state.params)
        ),
        donate_argnums=0,
    )
    state = state_at(0, size=4_000_000)
    expected = {}
    checkpoints = Checkpointer(tmp_path, keep=10)
    for at in range(1, 21):
        state = step(state)
        if at % 5 == 0:
            expected[at] = [np.array(leaf) for leaf in jax.tree.leaves(state)]
            checkpoints.save(state)
    checkpoints.close()
    assert find_steps(tmp_path) == [5, 10, 15, 20]
    for at in reversed(expected):
        checkpoints = Checkpointer(tmp_path, keep=10)
        found = checkpoints.restore(state_at(0, size=4_000_000), say=pytest.fail)
        for ours, theirs in zip(jax.tree.leaves(found), expected[at], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        checkpoints.close()
        shutil.rmtree(tmp_path / str(at))


def test_a_step_that_is_there_is_left_alone(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    before = json.loads((folder / "4" / "metadata" / "metadata").read_text())
    checkpoints = Checkpointer(folder)
    checkpoints.save(state_at(4), {"mIoU": 99.0})
    checkpoints.close()
    assert json.loads((folder / "4" / "metadata" / "metadata").read_text()) == before
