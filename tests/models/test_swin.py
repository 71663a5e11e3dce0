"""Swin Transformer: windows, positions, fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.models import BACKBONES
from jaxseg.models.backbones.swin import SwinTransformer, regions, relative_positions
from jaxseg.models.layers.windows import from_windows, to_windows
from jaxseg.models.registry import build


@pytest.mark.parametrize("size", [1, 2, 7])
def test_relative_positions(size):
    """As if by the index that the reference keeps."""
    index = SwinTransformer(window_size=size).reference_constants[
        "stages.2.blocks.5.attn.w_msa.relative_position_index"
    ]
    assert index.shape == (size**2, size**2)
    table = np.random.default_rng(0).normal(0, 1, ((2 * size - 1) ** 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(relative_positions(jnp.asarray(table), size), table[index].transpose(2, 0, 1))


def test_no_gather():
    """Tables and maps are read in order, forward and backward."""
    backbone = build(BACKBONES, {"type": "SwinTransformer", "embed_dims": 8, "num_heads": (1, 2, 2, 4)}, "backbone")
    images = jnp.zeros((1, 64, 96, 3))
    variables = jax.eval_shape(backbone.init, jax.random.key(0), images)
    gradient = jax.grad(lambda v, x: sum(jnp.mean(y) for y in backbone.apply(v, x)))
    text = jax.jit(gradient).lower(variables, images).as_text()
    assert "gather" not in text
    assert "scatter" not in text


def test_windows():
    x = jnp.arange(2 * 6 * 9 * 2.0).reshape(2, 6, 9, 2)
    windows = to_windows(x, 3)
    assert windows.shape == (2, 6, 9, 2)
    np.testing.assert_array_equal(windows[1, 4], x[1, 3:6, 3:6].reshape(9, 2))
    np.testing.assert_array_equal(from_windows(windows, 3, 6, 9), x)


@pytest.mark.parametrize(("height", "width", "size", "shift"), [(9, 6, 3, 1), (4, 12, 4, 2), (7, 7, 7, 3)])
def test_regions(height, width, size, shift):
    """Two tokens of a window are of one region where they are to each other as they were before the roll."""
    numbers = regions(height, width, size, shift)
    here = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
    before = np.roll(here, (-shift, -shift), (0, 1))
    moved = np.asarray(to_windows(jnp.asarray(here - before, jnp.float32)[None], size))[0]  # [windows, n, 2]
    together = (moved[:, :, None] == moved[:, None]).all(-1)
    np.testing.assert_array_equal(numbers[:, :, None] == numbers[:, None], together)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": (3, 6, 12)}, r"num_heads=\(3, 6, 12\) needs 4 entries, as many as depths"),
        ({"strides": (2, 2, 2, 2)}, r"strides=\(2, 2, 2, 2\) must begin with patch_size=4"),
        ({"num_heads": (3, 6, 12, 25)}, "25 does not divide the 768 channels of stage 3"),
        ({"out_indices": (1, 4)}, r"out_indices=\(1, 4\): there are stages 0 to 3"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    backbone = build(BACKBONES, {"type": "SwinTransformer", **fields}, "backbone")
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(backbone.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))


def test_positions_for_other_sizes():
    """The table is resized; the reference refuses such images."""
    backbone = SwinTransformer(
        embed_dims=8, depths=(1, 1), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1), use_abs_pos_embed=True
    )
    outputs, variables = jax.eval_shape(
        lambda x: backbone.init_with_output(jax.random.key(0), x), jnp.zeros((1, 65, 98, 3))
    )
    assert variables["params"]["absolute_pos_embed"].shape == (1, 56 * 56, 8)
    assert outputs[0].shape == (1, 17, 25, 8)
