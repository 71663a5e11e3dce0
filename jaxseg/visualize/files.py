"""Files that are either whole or not there."""

import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def write_whole(path: str | os.PathLike, data: bytes) -> Path:
    """Writes `data` under a temporary name beside `path`, then renames it; makes missing folders.

    A reader, or a run killed half-way, sees the old file or the new one, never a part of either.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_png(path: str | os.PathLike, image: UInt8[np.ndarray, "h w 3"]) -> Path:
    """Writes an RGB image (0..255) as PNG, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return write_whole(path, buffer.getvalue())
