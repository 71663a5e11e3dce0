"""The feature pyramid neck: its outputs, its initial weights and what its fields may say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.models import NECKS
from jaxseg.models.registry import build

CHANNELS = (8, 12, 16)
MAPS = [jnp.zeros((1, 2 * size - 1, size, c)) for size, c in zip((17, 9, 5), CHANNELS, strict=True)]


def neck(**fields):
    return build(NECKS, {"type": "FPN", "in_channels": CHANNELS, "out_channels": 6, "num_outs": 3, **fields}, "neck")


@pytest.mark.parametrize(
    ("fields", "widths"),
    [
        ({}, [17, 9, 5]),
        ({"num_outs": 5}, [17, 9, 5, 3, 2]),
        ({"num_outs": 5, "add_extra_convs": True, "norm_cfg": {"type": "BN"}}, [17, 9, 5, 3, 2]),
        ({"num_outs": 4, "add_extra_convs": "on_input", "start_level": 1}, [9, 5, 3, 2]),
        ({"num_outs": 2, "end_level": 2}, [17, 9]),
    ],
)
def test_outputs(fields, widths):
    outputs, _ = jax.eval_shape(lambda maps: neck(**fields).init_with_output(jax.random.key(0), maps), MAPS)
    assert [output.shape for output in outputs] == [(1, 2 * width - 1, width, 6) for width in widths]


def test_initial_weights_are_xaviers():
    params = neck().init(jax.random.key(0), MAPS)["params"]
    assert len(params) == 6
    for name, layer in params.items():
        kernel = np.asarray(layer["conv"]["kernel"])
        fans = np.prod(kernel.shape[:2]) * sum(kernel.shape[2:])
        assert 0.8 < np.abs(kernel).max() / (6 / fans) ** 0.5 <= 1, name
        assert not np.any(layer["conv"]["bias"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"in_channels": (8, 12, 17)}, r"in_channels=.*: the maps have \[8, 12, 16\] channels"),
        ({"end_level": 4, "num_outs": 4}, "end_level=4: must be -1, or"),
        ({"num_outs": 2}, "num_outs=2: 3 maps are used"),
        ({"num_outs": 3, "end_level": 2}, "num_outs=3: 2 maps are used"),
        ({"add_extra_convs": "on_top"}, "add_extra_convs='on_top': allowed: False, True"),
        ({"upsample_cfg": {"scale_factor": 2}}, "(?s)upsample_cfg=.*allowed are mode and align_corners"),
        ({"conv_cfg": {"type": "DCNv2"}}, "(?s)conv_cfg=.*only the plain convolution"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(neck(**fields).init, jax.random.key(0), MAPS)
