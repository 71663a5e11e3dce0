"""The state of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.engine.state import TrainState, parameter_count, take_over
from jaxseg.errors import ConfigError


def variables(classes=5, channels=3):
    return {
        "params": {
            "backbone": {"conv1": {"kernel": np.full((3, 3, 3, channels), classes)}},
            "decode_head": {"conv_seg": {"kernel": np.full((1, 1, 3, classes), classes), "bias": np.zeros(classes)}},
        },
        "batch_stats": {"backbone": {"bn1": {"mean": np.full(3, classes)}}},
    }


def test_variables():
    state = TrainState(jnp.zeros((), jnp.int32), **variables(), opt_state=())
    assert state.variables == {"params": state.params, "batch_stats": state.batch_stats}
    assert state.ema_params is None


def test_the_state_is_a_tree():
    state = TrainState(jnp.zeros((), jnp.int32), **variables(), opt_state=(jnp.ones(2),))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, state)
    assert isinstance(doubled, TrainState)
    np.testing.assert_array_equal(doubled.params["backbone"]["conv1"]["kernel"], 10)


def test_parameter_count():
    assert parameter_count(variables()["params"]) == 3 * 3 * 3 * 3 + 3 * 5 + 5
    assert parameter_count({}) == 0


def test_take_over():
    said = []
    taken = take_over(variables(), variables(), "runs/a", said.append)
    jax.tree.map(np.testing.assert_array_equal, taken, variables())
    assert not said


def test_other_classes_start_anew():
    said = []
    taken = take_over(variables(5), variables(7), "runs/a", said.append)
    assert (taken["params"]["backbone"]["conv1"]["kernel"] == 7).all()
    assert (taken["batch_stats"]["backbone"]["bn1"]["mean"] == 7).all()
    assert taken["params"]["decode_head"]["conv_seg"]["kernel"].shape == (1, 1, 3, 5)
    (line,) = said
    assert "params/decode_head/conv_seg/kernel" in line
    assert "start anew" in line


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (
            variables(),
            variables(channels=4),
            r"1 parameters differ, such as params/backbone/conv1/kernel \(\(3, 3, 3, 4\)",
        ),
        (variables() | {"batch_stats": {}}, variables(), "1 parameters differ, such as batch_stats.*missing here"),
        (variables(), variables() | {"batch_stats": {}}, "1 parameters differ, such as batch_stats.*missing there"),
    ],
)
def test_another_model(ours, theirs, message):
    with pytest.raises(ConfigError, match=message):
        take_over(ours, theirs, "runs/a", print)
