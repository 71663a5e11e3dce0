"""Square windows of a map."""

from jaxtyping import Array, Float


def to_windows(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b windows n c"]:
    """The tokens of square windows that lie side by side; `size` divides the map's."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c).swapaxes(2, 3)
    return x.reshape(b, -1, size * size, c)


def from_windows(x: Float[Array, "b windows n c"], size: int, height: int, width: int) -> Float[Array, "b h w c"]:
    """The inverse of `to_windows`."""
    b, c = x.shape[0], x.shape[-1]
    x = x.reshape(b, height // size, width // size, size, size, c).swapaxes(2, 3)
    return x.reshape(b, height, width, c)
