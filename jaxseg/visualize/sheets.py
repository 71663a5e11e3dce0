"""Contact sheets: many images with their masks on one picture, each under what there is to say of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, Num, UInt8
from PIL import Image, ImageDraw

from jaxseg.visualize.overlay import colorize, font, legend, overlay, shorten
from jaxseg.visualize.palettes import Palette, palette_array

_PAPER, _INK, _SOFT, _EMPTY = (255, 255, 255), (32, 36, 42), (110, 118, 128), (226, 229, 233)
_GAP, _TEXT, _LINE = 10, 13, 18
_LINES = 3  # of text under a picture


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a contact sheet.

    Attributes:
        image: the photo, of any channels and type; None where there is none.
        label: class indices, laid over the photo; None where there are none.
        mask: another picture beside the photo, such as a mask that is no label map.
        title: the first line, such as the file's name.
        text: what else there is to say, up to two lines.
        color: of that text.
    """

    image: Num[np.ndarray, "h w *c"] | None
    label: Integer[np.ndarray, "h2 w2"] | None = None
    mask: Num[np.ndarray, "h3 w3 *c"] | None = None
    title: str = ""
    text: str = ""
    color: tuple[int, int, int] = _SOFT


def contact_sheet(
    tiles: Sequence[Tile],
    classes: Sequence[str],
    palette: Palette,
    ignore_index: int = 255,
    columns: int = 4,
    width: int = 300,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws pictures in rows, and under them a legend of the classes that they show.

    Args:
        tiles: the pictures, in their order.
        classes: class names, in the order of their indices.
        palette: one colour in 0..255 for each class.
        ignore_index: the label of pixels that belong to no class; they are striped.
        columns: pictures in a row.
        width: of a picture in pixels; it is three quarters as high.
        opacity: of the class colours over the photo, 0..1.

    Returns:
        The RGB picture on white, 0..255.
    """
    colors = palette_array(palette, len(classes))
    height = width * 3 // 4
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    step_x, step_y = width + _GAP, height + _LINES * _LINE + _GAP
    present = {int(i) for tile in tiles if tile.label is not None for i in np.unique(tile.label)}
    present &= set(range(len(classes))) - {ignore_index}
    total = columns * step_x + _GAP
    key = Image.fromarray(legend(classes, colors, present, max_width=total - 2 * _GAP)) if present else None
    below = key.height + _GAP if key is not None else 0
    canvas = Image.new("RGB", (total, rows * step_y + _GAP + below), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, tile in enumerate(tiles):
        x, y = place % columns * step_x + _GAP, place // columns * step_y + _GAP
        picture = _draw(tile, colors, ignore_index, opacity, (width, height))
        canvas.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
        draw.text((x, y + height + 2), shorten(tile.title, width, _TEXT), fill=_INK, font=font(_TEXT))
        for line, text in enumerate(_lines(tile.text, width, _LINES - 1), start=1):
            draw.text((x, y + height + 2 + line * _LINE), text, fill=tile.color, font=font(_TEXT))
    if key is not None:
        canvas.paste(key, (_GAP, rows * step_y + _GAP))
    return np.array(canvas)


def as_photo(image: Num[np.ndarray, "*sides c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Any image as one to look at: its first three channels, or its only one; other than 8 bits are stretched."""
    image = image[len(image) // 2] if image.ndim == 4 else image
    planes = image.reshape(*image.shape[:2], -1)
    planes = planes[..., :3] if planes.shape[2] >= 3 else np.repeat(planes[..., :1], 3, axis=2)
    if planes.dtype == np.uint8:
        return np.ascontiguousarray(planes)
    values = np.nan_to_num(planes.astype(np.float32))
    low, high = np.percentile(values, (1, 99))
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def _draw(tile: Tile, colors: np.ndarray, ignore_index: int, opacity: float, box: tuple[int, int]) -> Image.Image:
    """A tile's picture, no larger than the box (width, height)."""
    pictures = []
    if tile.image is not None:
        photo = as_photo(tile.image)
        fits = tile.label is not None and tile.label.shape == photo.shape[:2]
        share = (box[0] // 2 - 1, box[1]) if tile.mask is not None else box
        height, width = _inside(photo.shape[:2], share)
        photo = np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX))
        if fits:
            photo = overlay(photo, _nearest(tile.label, (height, width)), colors, opacity, ignore_index)
        pictures.append(photo)
    mask = tile.mask
    if mask is None and tile.image is None and tile.label is not None:
        mask = colorize(tile.label, colors, ignore_index)
    if mask is not None:
        share = (box[0] // 2 - 1, box[1]) if pictures else box
        pictures.append(_nearest(as_photo(mask), _inside(mask.shape[:2], share)))
    if not pictures:
        empty = Image.new("RGB", box, _EMPTY)
        draw = ImageDraw.Draw(empty)
        draw.text((box[0] // 2, box[1] // 2), "no picture", fill=_SOFT, font=font(_TEXT), anchor="mm")
        return empty
    canvas = Image.new("RGB", (sum(p.shape[1] + 2 for p in pictures) - 2, max(p.shape[0] for p in pictures)), _PAPER)
    x = 0
    for picture in pictures:
        canvas.paste(Image.fromarray(picture), (x, (canvas.height - picture.shape[0]) // 2))
        x += picture.shape[1] + 2
    return canvas


def _inside(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """Height and width in the proportions of `size`, within a box (width, height)."""
    scale = min(box[0] / size[1], box[1] / size[0])
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def _nearest(array: Num[np.ndarray, "h w *c"], size: tuple[int, int]) -> Num[np.ndarray, "h2 w2 *c"]:
    rows = ((np.arange(size[0]) + 0.5) * array.shape[0] / size[0]).astype(int)[:, None]
    columns = ((np.arange(size[1]) + 0.5) * array.shape[1] / size[1]).astype(int)
    return array[rows, columns]


def _lines(text: str, width: int, most: int) -> list[str]:
    """The text broken between words, the last line shortened."""
    lines, words = [], text.split()
    while words and len(lines) < most - 1:
        count = len(words)
        while count > 1 and font(_TEXT).getlength(" ".join(words[:count])) > width:
            count -= 1
        lines.append(shorten(" ".join(words[:count]), width, _TEXT))
        words = words[count:]
    return lines + ([shorten(" ".join(words), width, _TEXT)] if words else [])
