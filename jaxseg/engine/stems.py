"""Weights for RGB images to start from where images have other channels."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float
from ml_collections import ConfigDict

from jaxseg.errors import CheckpointError
from jaxseg.inference import starting_weights
from jaxseg.models import build_model
from jaxseg.models.names import variable_shapes

RGB = 3


def image_part(model: ConfigDict) -> ConfigDict | None:
    """The part of `config.model` that has the `in_channels` of images: the backbone, or the one inside it."""
    encoder = model.get("image_encoder") or model.get("backbone")
    return (encoder.get("backbone_cfg") or encoder) if encoder else None


def widen(kernel: Float[np.ndarray, "*window 3 out"], channels: int) -> Float[np.ndarray, "*window channels out"]:
    """A kernel for RGB made one for other channels: the three repeated in turn, times 3 / channels.

    So the sum over the channels, what a grey image makes of it, stays what it was (nearly, where channels are no
    multiple of three). One channel has the sum of the three. It is timm's rule (Wightman, 2019).
    """
    if channels == 1:
        return kernel.sum(-2, keepdims=True)
    repeated = np.concatenate([kernel] * -(-channels // RGB), axis=-2)[..., :channels, :]
    return (repeated * (RGB / channels)).astype(kernel.dtype)


def weights_for(what: str, config: ConfigDict, model: nn.Module, say: Callable[[str], Any]) -> dict[str, Any]:
    """Variables to start from; those of a model for RGB widened, where this one takes other channels.

    Args:
        what: As for `starting_weights`.
        config: The recipe.
        model: The model to train.
        say: Told which kernels were widened.

    Raises:
        ConfigError, CheckpointError: As of `starting_weights`.
    """
    part = image_part(config.model)
    channels = part.get("in_channels", RGB) if part else RGB
    if channels in (RGB, None):
        return starting_weights(what, model)
    rgb = config.model.copy_and_resolve_references()
    with rgb.unlocked():
        image_part(rgb)["in_channels"] = RGB
    rgb = build_model(rgb)
    try:
        found = starting_weights(what, model)
    except CheckpointError:  # a file for RGB does not fit
        found = starting_weights(what, rgb)
    ours, theirs = variable_shapes(model), variable_shapes(rgb)
    stems = [path for path in ours if path in theirs and ours[path].shape != theirs[path].shape]
    flat = dict(flatten_dict(found))
    widened = [path for path in stems if path in flat and tuple(flat[path].shape) == theirs[path].shape]
    for path in widened:
        flat[path] = widen(np.asarray(flat[path]), channels)
    if widened:
        names = ", ".join("/".join(path[1:]) for path in widened)
        say(f"{what} is for RGB: {names} repeated for {channels} channels, times {RGB}/{channels}")
    return unflatten_dict(flat)
