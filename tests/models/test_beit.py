"""BEiT and MAE: biases of distances, images of one size, what is dropped."""

import jax
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.models import BACKBONES, build_model
from jaxseg.models.backbones.beit import bias_of_distances, relative_position_index
from jaxseg.models.names import reference_constants, variable_shapes
from jaxseg.models.registry import build
from small_models import head_config

SMALL = {"img_size": (48, 80), "embed_dims": 8, "num_layers": 2, "num_heads": 2}


@pytest.mark.parametrize("grid", [(3, 5), (1, 4), (2, 2)])
def test_biases_are_those_of_the_index(grid):
    rows, columns = grid
    index = relative_position_index(grid)
    entries = (2 * rows - 1) * (2 * columns - 1) + 3
    assert index.shape == (rows * columns + 1,) * 2
    assert set(index.ravel()) == set(range(entries))
    table = np.random.default_rng(0).normal(0, 1, (entries, 3)).astype(np.float32)
    bias = bias_of_distances(jax.numpy.asarray(table), grid)
    np.testing.assert_array_equal(bias, table[index].transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["BEiT", "MAE"])
def test_images_of_one_size(kind):
    """They say which size that is, to those who make up images, too."""
    backbone = build(BACKBONES, {"type": kind, **SMALL}, "backbone")
    assert backbone.sample_size == (48, 80)
    with pytest.raises(ConfigError, match=r"img_size=\(48, 80\): images of 64x80 do not fit, whose patches are 4x5"):
        jax.eval_shape(backbone.init, jax.random.key(0), np.zeros((1, 64, 80, 3), np.float32))
    head = head_config("FCNHead", in_channels=8, in_index=0, num_convs=1)
    parts = {"backbone": {"type": kind, **SMALL, "img_size": 96}, "decode_head": head}
    model = build_model({"type": "EncoderDecoder", **parts})
    tables = [shape for path, shape in variable_shapes(model).items() if path[-1] == "relative_position_bias_table"]
    assert [table.shape for table in tables] == [(11 * 11 + 3, 2)] * 2
    names = {f"backbone.layers.{i}.attn.relative_position_index" for i in range(2)}
    assert reference_constants(model).keys() == names


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 3}, "num_heads=3 must divide embed_dims=8"),
        ({"out_indices": (0, 2)}, r"out_indices=\(0, 2\): there are layers 0 to 1"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    backbone = build(BACKBONES, {"type": "BEiT", **SMALL, **fields}, "backbone")
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(backbone.init, jax.random.key(0), np.zeros((1, 48, 80, 3), np.float32))
