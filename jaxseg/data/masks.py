"""What the numbers and colours in masks mean: indices, two classes, several classes a pixel, colours."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int, Integer, UInt, UInt8

from jaxseg.errors import ConfigError, DataError, did_you_mean

# What `data.masks` can be.
KINDS = ("indices", "binary", "multi-label", "colors")
IGNORE = "ignore"
# Numbers that mean the second class in a mask of two, where it is not told apart otherwise.
BINARY = {0: 0, 1: 1, 255: 1}
_NO_CLASS = -(2**31)
_SHOWN = 5
MOST_BITS = 16  # classes that one number of a mask says of whether they are there
_EXACT = 2**24  # OpenCV counts in float32, which is exact up to here


def mask_kind(value: str | None, colors: Any) -> str:
    """`data.masks`, checked; what it is where it is not set.

    Raises:
        ConfigError: it is unknown, or there are colours for masks without any.
    """
    if value is None:
        return "colors" if colors else "indices"
    if value not in KINDS:
        raise ConfigError(f"data.masks is {value!r}. {did_you_mean(value, KINDS)}")
    if colors and value != "colors":
        raise ConfigError(f"data.mask_colors is set, but data.masks is {value!r}; leave one of the two out.")
    return value


def named_classes(table: Mapping[Any, Any] | None, number: Callable[[Any], int]) -> tuple[str, ...]:
    """The names of classes that a map has, each once, in the order of its keys' numbers: configs keep no other.

    Args:
        table: `data.label_map` or `data.mask_colors`.
        number: of a key: `stored_number` or `color_code`.
    """
    items = sorted(((number(key), value) for key, value in (table or {}).items()), key=lambda item: item[0])
    names = [value for _, value in items if isinstance(value, str) and not _is_number(value)]
    return tuple(dict.fromkeys(name for name in names if name != IGNORE))


def stored_number(raw: Any) -> int:
    """A key of `data.label_map`.

    Raises:
        ConfigError: it is no whole number.
    """
    try:
        return int(raw)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"data.label_map has {raw!r} for a number stored in masks; it must be {{number: class or 'ignore'}}."
        ) from error


def class_index(value: Any, classes: Sequence[str], ignore: int, where: str) -> int:
    """The label that a class's name, its index, or "ignore" means.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(value, str) and value == IGNORE:
        return ignore
    if isinstance(value, str) and value in classes:
        return list(classes).index(value)
    if isinstance(value, int | np.integer) or _is_number(value):
        index = int(value)
        if index == ignore or 0 <= index < len(classes):
            return index
        raise ConfigError(
            f"{where} maps to {index}; allowed are the classes 0..{len(classes) - 1} and {ignore} (ignore_index)."
        )
    hint = did_you_mean(str(value), [*classes, IGNORE])
    raise ConfigError(f"{where} maps to {value!r}, which is no class. {hint}")


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value) is not None


def parse_label_map(table: Any, classes: Sequence[str], ignore: int) -> dict[int, int]:
    """`data.label_map`: stored number -> class index or `ignore`.

    Raises:
        ConfigError: a key is no number, or a value no class.
    """
    parsed = {}
    try:
        items = dict(table or {}).items()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data.label_map is {table!r}; it must be {{number: class or 'ignore'}}.") from error
    for raw, new in items:
        parsed[stored_number(raw)] = class_index(new, classes, ignore, f"data.label_map[{raw}]")
    return parsed


def parse_colors(table: Any, classes: Sequence[str], palette: Sequence[Sequence[int]], ignore: int) -> dict[int, int]:
    """`data.mask_colors`: red * 65536 + green * 256 + blue -> class index or `ignore`; of the palette for None.

    Raises:
        ConfigError: a key is no colour, a value no class, or two classes have one colour.
    """
    if not table:
        table = {f"#{r:02x}{g:02x}{b:02x}": index for index, (r, g, b) in enumerate(palette)}
        if len(table) < len(palette):
            raise ConfigError("data.masks is 'colors', but the palette has one colour twice; set data.mask_colors.")
    parsed: dict[int, int] = {}
    for color, new in dict(table).items():
        code = color_code(color)
        label = class_index(new, classes, ignore, f"data.mask_colors[{color}]")
        if parsed.setdefault(code, label) != label:
            raise ConfigError(f"data.mask_colors has {color_name(code)} for two classes.")
    return parsed


def color_code(color: Any) -> int:
    """Red * 65536 + green * 256 + blue of "#ff8000", "255 128 0", "255,128,0" or (255, 128, 0).

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(color, str) and (match := re.fullmatch(r"\s*(?:#|0x)([0-9a-fA-F]{6})\s*", color)):
        return int(match[1], 16)
    parts = re.split(r"[\s,;]+", color.strip(" ()[]")) if isinstance(color, str) else color
    try:
        r, g, b = (int(part) for part in parts)
    except (TypeError, ValueError):
        r = g = b = -1
    if not all(0 <= part <= 255 for part in (r, g, b)):
        raise ConfigError(f"data.mask_colors has {color!r} for a colour; write '#ff8000' or '255 128 0'.")
    return r << 16 | g << 8 | b


def color_name(code: int) -> str:
    """A colour as "#ff8000 (255 128 0)"."""
    return f"#{code:06x} ({code >> 16} {code >> 8 & 255} {code & 255})"


def read_table(path: str | Path) -> dict[str, str]:
    """A map from a text file: a number or colour and a class a line, parted by blanks, commas, semicolons or tabs.

    Lines read `7 road`, `#804080,road`, `128 64 128 road` or `road,128,64,128`; a first line that does not, such as
    `name,r,g,b`, is a heading. Empty lines do not count, nor do lines that begin with `#` and a blank.

    Raises:
        ConfigError: a line reads otherwise, or a key comes twice.
    """
    table: dict[str, str] = {}
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    read = 0
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("# "):
            continue
        entry = _table_entry(line)
        read += 1
        if entry is None:
            if read == 1:
                continue
            raise ConfigError(f"{path}, line {number}: {line!r} is no number or colour with a class, such as '7 road'.")
        if entry[0] in table:
            raise ConfigError(f"{path}, line {number}: {entry[0]} comes twice.")
        table[entry[0]] = entry[1]
    if not table:
        raise ConfigError(f"{path} has no line with a number or colour and a class, such as '7 road'.")
    return table


_GAP = r"[\s,;:=]+"
_COLOR = r"(?:#|0x)[0-9a-fA-F]{6}|\d+[\s,;]+\d+[\s,;]+\d+"


def _table_entry(line: str) -> tuple[str, str] | None:
    for pattern in (
        rf"(?P<key>{_COLOR}){_GAP}(?P<value>\D.*|\d+)",
        rf"(?P<value>.*?\D){_GAP}(?P<key>{_COLOR})",
        rf"(?P<key>-?\d+){_GAP}(?P<value>\D.*|\d+)",
    ):
        if match := re.fullmatch(pattern, line):
            value = match["value"].strip().strip("\"',;:= ")
            return " ".join(re.split(r"[\s,;]+", match["key"])), value
    return None


def from_colors(
    picture: UInt8[np.ndarray, "h w 3"], path: str, colors: Mapping[int, int], names: Mapping[int, str]
) -> Int[np.ndarray, "h w"]:
    """Class indices of a mask of colours.

    Args:
        picture: RGB.
        path: the file, for errors.
        colors: label by colour, see `parse_colors`.
        names: of the labels, for errors.

    Raises:
        DataError: colours that mean no class; names them, how often they come, and the nearest known one.
    """
    codes = picture.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    known, labels = _sorted_colors(tuple(sorted(colors.items())))
    places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    wrong = known[places] != codes
    if wrong.any():
        found, counts = np.unique(codes[wrong], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_SHOWN]
        listed = ", ".join(f"{color_name(int(found[i]))} in {counts[i]} pixels" for i in order)
        more = f" and {len(found) - _SHOWN} more colours" if len(found) > _SHOWN else ""
        first = _channels(found[order[0]])
        near = int(known[np.argmin(((_channels(known) - first) ** 2).sum(-1))])
        raise DataError(
            f"{path} holds colours that mean no class: {listed}{more}. The nearest to the first is {color_name(near)}, "
            f"{names.get(colors[near], colors[near])}. Add them to data.mask_colors (as 'ignore', where they mean "
            "nothing); many colours near known ones come from JPEG or from smooth resizing."
        )
    return labels[places]


def _channels(codes: Any) -> np.ndarray:
    return np.stack([np.asarray(codes) >> 16, np.asarray(codes) >> 8 & 255, np.asarray(codes) & 255], axis=-1)


@functools.lru_cache(maxsize=16)
def _sorted_colors(pairs: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([code for code, _ in pairs], np.int32), np.array([label for _, label in pairs], np.int32)


def binary_numbers(mask: Integer[np.ndarray, "h w"], path: str) -> UInt8[np.ndarray, "h w"]:
    """0 and 1 of a mask that holds 0 and 1, or 0 and 255.

    Raises:
        DataError: other numbers, or 1 and 255 both.
    """
    few = mask.dtype == np.uint8  # then counting is quicker than sorting
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)) if few else np.unique(mask)
    bad = [int(value) for value in values if value not in BINARY]
    if bad:
        raise DataError(
            f"{path} holds {', '.join(map(str, bad[:_SHOWN]))}{', ...' if len(bad) > _SHOWN else ''}, but with "
            "data.masks=binary a mask holds 0 and 1, or 0 and 255. Say what each number means with data.label_map "
            "instead; many numbers between 0 and 255 come from JPEG or from smooth resizing."
        )
    if {1, 255} <= set(values.tolist()):
        raise DataError(
            f"{path} holds both 1 and 255, which mean the same with data.masks=binary. If 255 is to be ignored, leave "
            "data.masks out; else say what each means with data.label_map."
        )
    return (mask != 0).astype(np.uint8)


def several_labels(layers: Sequence[np.ndarray], paths: Sequence[str], count: int) -> UInt8[np.ndarray, "h w k"]:
    """One 0 or 1 a class at every pixel, of one mask a class, of one with a band a class, or of one with a bit a class.

    Args:
        layers: what the files hold, [h w] or [h w k].
        paths: of the files.
        count: of classes.

    Raises:
        DataError: masks of unequal sizes, bits or bands that are no class, numbers other than 0 and 1 or 255.
    """
    if len(layers) == 1 and layers[0].ndim == 2:
        return _from_bits(layers[0], paths[0], count)
    if len(layers) == 1:
        if layers[0].shape[2] != count:
            raise DataError(f"{paths[0]} has {layers[0].shape[2]} bands, but there are {count} classes.")
        layers, paths = list(np.moveaxis(layers[0], -1, 0)), paths * count
    odd = next((i for i, layer in enumerate(layers) if layer.shape != layers[0].shape), None)
    if odd is not None:
        first, other = ("x".join(map(str, layers[i].shape)) for i in (0, odd))
        raise DataError(f"{paths[0]} is {first} (height x width), but {paths[odd]} is {other}.")
    return np.stack([binary_numbers(layer, path) for layer, path in zip(layers, paths, strict=True)], axis=-1)


def _from_bits(mask: np.ndarray, path: str, count: int) -> UInt8[np.ndarray, "h w k"]:
    if int(mask.min()) < 0 or int(mask.max()) >> count:
        raise DataError(
            f"{path} holds {int(mask.max())}, but with data.masks=multi-label and one file an image, bit k of a number "
            f"says whether class k is there: {count} classes need numbers of 0..{2**count - 1}. For a file a class, "
            "have {class} in data.label_dir or data.label_suffix."
        )
    return ((mask[..., None].astype(np.int64) >> np.arange(count)) & 1).astype(np.uint8)


def to_bits(labels: Integer[np.ndarray, "h w k"]) -> UInt[np.ndarray, "h w"]:
    """The numbers of 8 or 16 bits whose bits are the labels, of at most 16 classes; see `several_labels`."""
    dtype = np.dtype(np.uint8 if labels.shape[-1] <= 8 else np.uint16)
    return (labels.astype(dtype) << np.arange(labels.shape[-1], dtype=dtype)).sum(-1, dtype=dtype)


def count_classes(label: Integer[np.ndarray, "h w *k"], num_classes: int, ignore_index: int) -> Int[np.ndarray, " c"]:
    """Pixels of every class; of several classes a pixel each counts."""
    if label.ndim == 3:
        return (label == 1).sum((0, 1))
    if label.dtype == np.uint8 and label.size < _EXACT:  # several times as quick
        counts = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    else:
        counts = np.bincount(label[label >= 0].ravel(), minlength=256)
    if 0 <= ignore_index < len(counts):
        counts[ignore_index] = 0
    return np.pad(counts, (0, max(0, num_classes - len(counts))))[:num_classes]


def describe(source: Any) -> str:
    """What is stored in the masks of a source and what it means, in a line; of several sources a line each."""
    if several := getattr(source, "sources", None):
        said = [f"{one.name}: {text}" for one in several if (text := describe(one))]
        return "\n".join(dict.fromkeys(said))
    kind = getattr(source, "masks", "indices")
    if kind == "binary":
        return f"masks: 0 is {source.classes[0]}, 1 or 255 is {source.classes[1]}"
    if kind == "multi-label":
        return f"masks: any of {len(source.classes)} classes at every pixel: {', '.join(source.classes)}"
    meaning: dict[int, list[str]] = {}
    if kind == "colors":
        for code, label in source.mask_colors.items():
            meaning.setdefault(label, []).append(f"#{code:06x}")
    else:
        if not source.label_map and not source.reduce_zero_label:
            return ""
        for raw in range(256):
            label = raw
            if source.reduce_zero_label:
                label = source.ignore_index if raw in (0, source.ignore_index) else raw - 1
            label = source.label_map.get(label, label)
            if label == source.ignore_index or 0 <= label < len(source.classes):
                meaning.setdefault(label, []).append(str(raw))
    ignored = meaning.pop(source.ignore_index, [])
    parts = [f"{_runs(raw)} is {source.classes[label]}" for label, raw in sorted(meaning.items())]
    parts += [f"{_runs(ignored)} is ignored"] if ignored else []
    return f"masks: {', '.join(parts)}"


def _runs(items: Sequence[str]) -> str:
    """The items, long lists cut short in the middle."""
    return "/".join(items) if len(items) <= 4 else f"{items[0]}/{items[1]}/.../{items[-1]}"
