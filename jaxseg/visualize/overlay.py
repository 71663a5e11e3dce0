"""Label maps as pictures: colours, overlays on the photo, errors, legends, panels; functions of arrays."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxseg.errors import DataError
from jaxseg.visualize.palettes import Palette, palette_array

# Two greys in diagonal stripes mark pixels of no class: no flat class colour can be taken for them.
_HATCH = np.array([[92, 92, 92], [140, 140, 140]], np.uint8)
_HATCH_PERIOD = 5

WRONG = (224, 36, 36)
IGNORED = (128, 128, 128)
# What a right pixel is without a photo to dim; with one, its luminance stays below _DIM_LIGHT.
CORRECT = (38, 44, 52)
_DIM_LIGHT = 84

_LINE_OPACITY = 0.65

_PAPER = (255, 255, 255)
_INK = (32, 36, 42)
_FONT_SIZE = 15
_GAP = 8
# Narrower than this, "prediction" no longer fits above its picture.
_MIN_TILE = 160


def colorize(
    label_map: Integer[np.ndarray, "h w *k"], palette: Palette, ignore_index: int = 255
) -> UInt8[np.ndarray, "h w 3"]:
    """Paints each pixel in the colour of its class.

    Args:
        label_map: class indices. `ignore_index`, and every value without a row in the palette, is drawn as
            grey diagonal stripes. Or 0 and 1 for every class, where a pixel may have several: the mean of their
            colours, black where there is none.
        palette: one colour in 0..255 for each class.
        ignore_index: the label of pixels that belong to no class.

    Returns:
        The RGB picture, 0..255.
    """
    colors = palette_array(palette)
    if label_map.ndim == 3:
        there = (label_map == 1).astype(np.float32)
        mean = there @ colors[: label_map.shape[2]].astype(np.float32) / np.maximum(there.sum(-1, keepdims=True), 1)
        return np.rint(mean).astype(np.uint8)
    labelled = _labelled(label_map, len(colors), ignore_index)
    rows, columns = np.indices(label_map.shape, sparse=True)
    picture = _HATCH[(rows + columns) // _HATCH_PERIOD % 2]
    picture[labelled] = colors[label_map[labelled]]
    return picture


def boundaries(label_map: Integer[np.ndarray, "h w *k"]) -> Bool[np.ndarray, "h w"]:
    """True where the pixel to the right or the one below has another label: lines one pixel wide."""
    edge = np.zeros(label_map.shape[:2], bool)
    edge[:, :-1] |= _differ(label_map[:, :-1], label_map[:, 1:])
    edge[:-1] |= _differ(label_map[:-1], label_map[1:])
    return edge


def _differ(first: Integer[np.ndarray, "h w *k"], second: Integer[np.ndarray, "h w *k"]) -> Bool[np.ndarray, "h w"]:
    """True where labels are not the same; of several classes a pixel, where any is not."""
    return first != second if first.ndim == 2 else (first != second).any(-1)


def overlay(
    image: UInt8[np.ndarray, "h w 3"],
    label_map: Integer[np.ndarray, "h w *k"],
    palette: Palette,
    opacity: float = 0.5,
    ignore_index: int = 255,
) -> UInt8[np.ndarray, "h w 3"]:
    """Lays the class colours over a photo, with a thin light line between classes.

    Args:
        image: RGB photo, 0..255.
        label_map: class indices; pixels of no class are striped as in `colorize`. Or 0 and 1 for every class, where a
            pixel may have several; those of none show the photo.
        palette: one colour in 0..255 for each class.
        opacity: 0 shows the photo alone (and the lines), 1 the colours alone.
        ignore_index: the label of pixels that belong to no class.

    Returns:
        The RGB picture, 0..255.

    Raises:
        DataError: image and label map differ in size, or opacity is not in 0..1.
    """
    require_same_size(image=image, label_map=label_map)
    if not 0 <= opacity <= 1:
        raise DataError(f"opacity is {opacity}: give a number from 0 (photo alone) to 1 (colours alone).")
    colors = colorize(label_map, palette, ignore_index).astype(np.float32)
    blend = image * np.float32(1 - opacity) + colors * np.float32(opacity)
    if label_map.ndim == 3:
        none = ~(label_map == 1).any(-1)
        blend[none] = image[none]
    edge = boundaries(label_map)
    blend[edge] += (255 - blend[edge]) * np.float32(_LINE_OPACITY)
    return np.rint(blend).astype(np.uint8)


def error_map(
    prediction: Integer[np.ndarray, "h w *k"],
    truth: Integer[np.ndarray, "h w *k"],
    ignore_index: int = 255,
    image: UInt8[np.ndarray, "h w 3"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Shows where a prediction is wrong: red where it is, dim where it is right, grey where truth is ignored.

    Args:
        prediction: predicted class indices; or 0 and 1 for every class: where any of them is wrong, the pixel is.
        truth: true class indices, `ignore_index` where nobody knows.
        ignore_index: the label of pixels that do not count.
        image: RGB photo; given, right pixels show it dark and without colour instead of a flat dark tone.

    Returns:
        The RGB picture, 0..255.

    Raises:
        DataError: the arrays differ in size.
    """
    require_same_size(prediction=prediction, truth=truth)
    if image is None:
        picture = np.full((*truth.shape[:2], 3), CORRECT, np.uint8)
    else:
        require_same_size(image=image, truth=truth)
        luminance = image @ np.array([0.299, 0.587, 0.114], np.float32) / 255 * _DIM_LIGHT
        picture = np.repeat(luminance.astype(np.uint8)[..., None], 3, axis=-1)
    wrong, counted = _judged(prediction, truth, ignore_index)
    picture[wrong] = WRONG
    picture[~counted] = IGNORED
    return picture


def _judged(
    prediction: Integer[np.ndarray, "h w *k"], truth: Integer[np.ndarray, "h w *k"], ignore_index: int
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Where the prediction is wrong, and where the truth is known."""
    counted = truth != ignore_index
    wrong = (prediction != truth) & counted
    return (wrong, counted) if truth.ndim == 2 else (wrong.any(-1), counted.any(-1))


def legend(
    classes: Sequence[str],
    palette: Palette,
    indices: Iterable[int] | Integer[np.ndarray, " indices"] | None = None,
    max_width: int = 960,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws class names beside boxes of their colours, in as many columns as fit.

    Args:
        classes: class names, in the order of their indices.
        palette: one colour in 0..255 for each class.
        indices: the classes to show, such as `np.unique(label_map)`; values that are no class, such as the
            ignore index, are left out. None shows all.
        max_width: widest picture to draw, in pixels; longer names are shortened.

    Returns:
        RGB picture on white, 0..255, as large as its text needs.

    Raises:
        DataError: fewer colours than classes, or nothing to show.
    """
    colors = palette_array(palette, len(classes))
    wanted = range(len(classes)) if indices is None else sorted({int(index) for index in indices})
    shown = [index for index in wanted if 0 <= index < len(classes)]
    if not shown:
        raise DataError(f"No class to show in the legend: none of the indices is in 0..{len(classes) - 1}.")
    box, line = _FONT_SIZE, _FONT_SIZE + _GAP
    room = max_width - box - 3 * _GAP
    names = [shorten(classes[index], room) for index in shown]
    column = box + 3 * _GAP + max(int(font().getlength(name)) + 1 for name in names)
    columns = max(1, min(len(shown), max_width // column))
    rows = -(-len(shown) // columns)
    columns = -(-len(shown) // rows)  # the last columns may have emptied
    canvas = Image.new("RGB", (columns * column, rows * line + _GAP), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, (index, name) in enumerate(zip(shown, names, strict=True)):
        x, y = place // rows * column + _GAP, place % rows * line + _GAP
        fill = tuple(colors[index].tolist())
        draw.rectangle((x, y, x + box - 1, y + box - 1), fill=fill, outline=(120, 120, 120))
        draw.text((x + box + _GAP, y + box // 2), name, fill=_INK, font=font(), anchor="lm")
    return np.array(canvas)


def panel(
    image: UInt8[np.ndarray, "h w 3"],
    truth: Integer[np.ndarray, "h w *k"],
    prediction: Integer[np.ndarray, "h w *k"],
    palette: Palette,
    opacity: float = 0.6,
    ignore_index: int = 255,
    columns: int = 4,
    tile_size: int = 480,
) -> UInt8[np.ndarray, "panel_h panel_w 3"]:
    """Sets image, truth, prediction and errors beside each other, each under a small caption.

    The caption of the errors says which share of the labelled pixels is wrong, counted before any resizing.

    Args:
        image: RGB photo, 0..255.
        truth: true class indices, `ignore_index` where nobody knows.
        prediction: predicted class indices.
        palette: one colour in 0..255 for each class.
        opacity: of the class colours over the photo, 0..1.
        ignore_index: the label of pixels that do not count.
        columns: pictures in a row; 4 gives one row, 2 a square.
        tile_size: longest side of each picture in pixels; a smaller photo keeps its size, one of less
            than 160 pixels is enlarged.

    Returns:
        The RGB picture on white, 0..255.

    Raises:
        DataError: the arrays differ in size.
    """
    require_same_size(image=image, truth=truth, prediction=prediction)
    mistaken, counted = _judged(prediction, truth, ignore_index)
    wrong = 100 * float(mistaken[counted].mean()) if counted.any() else None
    image, truth, prediction = _fit(image, truth, prediction, tile_size)
    verdict = "errors" if wrong is None else f"errors: {wrong:.1f} %"
    pictures = {
        "image": image,
        "truth": overlay(image, truth, palette, opacity, ignore_index),
        "prediction": overlay(image, prediction, palette, opacity, ignore_index),
        verdict: error_map(prediction, truth, ignore_index, image),
    }
    height, width = image.shape[:2]
    # In step with the picture, because pages show large panels reduced.
    size = max(_FONT_SIZE, width // 20)
    caption = size + _GAP
    step_x, step_y = max(width, _MIN_TILE) + _GAP, height + caption
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * step_x - _GAP, rows * step_y), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for place, (name, picture) in enumerate(pictures.items()):
        x, y = place % columns * step_x, place // columns * step_y
        draw.text((x + 2, y + caption // 2), name, fill=_INK, font=font(size), anchor="lm")
        canvas.paste(Image.fromarray(picture), (x, y + caption))
    return np.array(canvas)


def require_same_size(**arrays: np.ndarray) -> None:
    """Raises DataError, naming the arrays, unless all have the same height and width."""
    sizes = {name: array.shape[:2] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
        raise DataError(f"Sizes (height x width) differ: {shown}. Resize labels with nearest neighbours.")


def _labelled(label_map: Integer[np.ndarray, "h w"], classes: int, ignore_index: int) -> Bool[np.ndarray, "h w"]:
    """True where the label is the index of a class."""
    return (label_map >= 0) & (label_map < classes) & (label_map != ignore_index)


def _fit(
    image: UInt8[np.ndarray, "h w 3"],
    truth: Integer[np.ndarray, "h w *k"],
    prediction: Integer[np.ndarray, "h w *k"],
    tile_size: int,
) -> tuple[
    UInt8[np.ndarray, "new_h new_w 3"],
    Integer[np.ndarray, "new_h new_w *k"],
    Integer[np.ndarray, "new_h new_w *k"],
]:
    """Scales a photo and its label maps to a longest side between the smallest tile and `tile_size`."""
    height, width = truth.shape[:2]
    longest = max(height, width)
    scale = min(max(longest, _MIN_TILE), tile_size) / longest
    if scale == 1:
        return image, truth, prediction
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    photo = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BICUBIC)
    rows = ((np.arange(new_height) + 0.5) * height / new_height).astype(int)[:, None]
    columns = ((np.arange(new_width) + 0.5) * width / new_width).astype(int)
    return np.array(photo), truth[rows, columns], prediction[rows, columns]


@lru_cache
def font(size: int = _FONT_SIZE) -> ImageFont.FreeTypeFont:
    """DejaVu Sans out of matplotlib: always there and, unlike Pillow's own, with Greek and Cyrillic."""
    import matplotlib  # here, so that importing this module stays cheap

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def shorten(text: str, width: int, size: int = _FONT_SIZE) -> str:
    """The text on one line, cut with an ellipsis where it is wider than `width` pixels in that size."""
    text = " ".join(text.split())
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
