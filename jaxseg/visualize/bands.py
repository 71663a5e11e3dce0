"""Images of any channels as pictures."""

import numpy as np
from jaxtyping import Real, UInt8

# Shares of the pixels that become black and white: a few bright ones do not leave the rest dark.
_DARK, _BRIGHT = 2, 98


def as_picture(image: Real[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB picture of an image: its first three bands, each stretched from its 2nd to its 98th percentile.

    One of 8 bits and three channels is that picture itself. One channel is shown in grey; of two, green and blue are
    the second.
    """
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return image
    bands = [min(band, image.shape[-1] - 1) for band in range(3)]
    picture = image[..., bands].astype(np.float32)
    low, high = np.percentile(picture, (_DARK, _BRIGHT), axis=(0, 1))
    low, high = np.where(high > low, low, picture.min((0, 1))), np.where(high > low, high, picture.max((0, 1)))
    scaled = (picture - low) / np.where(high > low, high - low, 1)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
