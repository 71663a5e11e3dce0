"""Class colours: a palette for any number of classes, and the checks on one that a data set brings."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Integer, UInt8

from jaxseg.errors import DataError

# One (red, green, blue) row in 0..255 for each class, in the order of the class indices.
Palette = Sequence[Sequence[int]] | Integer[np.ndarray, "classes 3"]

# The seven hues of Okabe and Ito ("Color Universal Design", 2008), which stay apart under protanopia and
# deuteranopia, and a dark maroon in the place of their black: black is too easily read as "nothing here".
_FIRST = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (204, 121, 167),
    (240, 228, 66),
    (85, 20, 55),
)

# Candidate colours for the ninth class on lie on a grid of this step in each channel.
_GRID_STEP = 15


def srgb_to_lab(colors: Integer[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """CIE L*a*b* (D65) of sRGB colours in 0..255; equal distances in it look about equally different."""
    encoded = np.asarray(colors, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@lru_cache
def default_palette(n: int) -> tuple[tuple[int, int, int], ...]:
    """Colours for `n` classes: distinct, the same on every call, and none of them near black, white or grey.

    The first eight stay apart for colour-blind readers. Each further one is the colour of a grid that is
    farthest, in CIE L*a*b*, from all before it, so `default_palette(m)` is the start of `default_palette(n)`
    for m < n, and few classes never get colours that look alike.

    Args:
        n: number of classes, 0 to some thousands.

    Returns:
        `n` tuples (red, green, blue) in 0..255.

    Raises:
        DataError: `n` is negative or more than the grid holds.
    """
    steps = np.arange(0, 256, _GRID_STEP)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = srgb_to_lab(grid)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    # Dark and pale colours vanish on a photo; grey is kept for pixels that belong to no class.
    usable = (lab[:, 0] > 28) & (lab[:, 0] < 92) & (chroma > 25)
    grid, lab = grid[usable], lab[usable]
    if not 0 <= n <= len(_FIRST) + len(grid):
        raise DataError(f"No palette of {n} colours: give a number from 0 to {len(_FIRST) + len(grid)}.")
    chosen = list(_FIRST[:n])
    nearest = np.full(len(grid), np.inf)
    for first in srgb_to_lab(np.array(_FIRST)):
        nearest = np.minimum(nearest, np.linalg.norm(lab - first, axis=-1))
    while len(chosen) < n:
        best = int(nearest.argmax())
        red, green, blue = grid[best].tolist()
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[best], axis=-1))
    return tuple(chosen)


def palette_array(palette: Palette, classes: int | None = None) -> UInt8[np.ndarray, "classes 3"]:
    """A palette as an array, checked.

    Args:
        palette: rows (red, green, blue) in 0..255; lists, tuples or an integer array.
        classes: the number of classes it has to colour, where that is known.

    Raises:
        DataError: rows that are not three integers in 0..255, or fewer rows than classes.
    """
    rows = [tuple(row) for row in palette]
    for index, row in enumerate(rows):
        if len(row) != 3 or not all(0 <= value <= 255 and int(value) == value for value in row):
            raise DataError(f"Colour {index} of the palette is {row}: give three integers from 0 to 255.")
    if classes is not None and len(rows) < classes:
        raise DataError(
            f"The palette has {len(rows)} colours for {classes} classes: add the missing ones, or use "
            f"default_palette({classes})."
        )
    return np.array(rows, np.uint8).reshape(-1, 3)
