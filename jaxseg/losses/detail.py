"""Labels of boundaries, which STDC's detail head learns."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from jaxseg.models.layers.conv import conv2d
from jaxseg.models.layers.resize import resize


def detail_labels(
    labels: Integer[Array, "b h w"],
    laplacian: Float[np.ndarray, "1 1 3 3"],
    fusion: Float[np.ndarray, "1 3 1 1"],
    threshold: float = 0.1,
) -> Int[Array, "b h w"]:
    """Where neighbouring pixels differ, at three resolutions (Fan et al. 2021, "Rethinking BiSeNet").

    The Laplacian of the labels *as numbers* is taken at strides 1, 2 and 4; where it is above the threshold there is a
    boundary, and where the weighed sum of these three is, there is one in the result. Ignored pixels are labels like
    others.

    Args:
        labels: Class indices.
        laplacian, fusion: Kernel and weights, `STDCHead.reference_constants`.
        threshold: In 0..1.

    Returns:
        1 at boundaries, else 0.
    """
    maps = labels.astype(jnp.float32)[..., None]
    kernel = jnp.asarray(laplacian.transpose(2, 3, 1, 0))
    found: list[Float[Array, "b h w 1"]] = []
    for stride in (1, 2, 4):
        edges = conv2d(maps, kernel, stride, padding=1)
        found.append((resize(edges, labels.shape[1:3], mode="nearest") > threshold).astype(jnp.float32))
    fused = conv2d(jnp.concatenate(found, axis=-1), jnp.asarray(fusion.transpose(2, 3, 1, 0)))
    return (fused[..., 0] > threshold).astype(jnp.int32)
