"""The demo data set: textured shapes in clutter, drawn on the fly, the same from the same seed."""

import colorsys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from jaxseg.data.datasets import DATASETS, Color
from jaxseg.data.transforms.base import Record, Size
from jaxseg.errors import ConfigError, did_you_mean

_DEFAULTS = {"size": (96, 128), "train": 160, "val": 32, "test": 32, "seed": 0}
_PARTS = {"train": 0, "val": 1, "test": 2}
_SHIFT = 4  # OpenCV takes coordinates in 1/16 pixel
_SHADOW = np.array([[1, 0, 2], [0, 1, 3]], np.float32)  # shadows fall to the lower right


@dataclass(frozen=True)
class DemoSource:
    """One part of the demo data set; its records come with image and label.

    Every picture is a function of (seed, part, index). Classes: background, disk, box, triangle, ring, cross.
    Shape tells them apart; hue and weave are hints, so that a small network learns it in a few hundred steps.

    Attributes:
        part: "train", "val" or "test".
        length: how many pictures.
        image_size: (height, width) in pixels.
        seed: of all the pictures.
    """

    part: str = "train"
    length: int = _DEFAULTS["train"]
    image_size: Size = _DEFAULTS["size"]
    seed: int = _DEFAULTS["seed"]

    classes = DATASETS["Demo"].classes
    palette: tuple[Color, ...] = DATASETS["Demo"].palette
    ignore_index: int = DATASETS["Demo"].ignore_index
    reduce_zero_label = False

    @classmethod
    def from_config(cls, data: Mapping[str, Any], part: str) -> "DemoSource":
        """Of `config.data`: `data.demo` may have `size` (h, w), `train`, `val`, `test` (lengths) and `seed`.

        Raises:
            ConfigError: an unknown field or part, or a size or length below what can be drawn.
        """
        given = dict(data.get("demo") or {})
        for name in given:
            if name not in _DEFAULTS:
                raise ConfigError(f"data.demo has no field {name!r}. {did_you_mean(name, _DEFAULTS)}")
        options = {**_DEFAULTS, **given}
        split = data[part].get("split") or part
        if split not in _PARTS:
            raise ConfigError(f"data.{part}.split is {split!r}. {did_you_mean(split, _PARTS)}")
        size = tuple(int(side) for side in options["size"])
        if len(size) != 2 or min(size) < 32:
            raise ConfigError(f"data.demo.size is {options['size']!r}; it must be (height, width), 32 or more each.")
        length = int(options[split])
        if length < 1:
            raise ConfigError(f"data.demo.{split} is {length}; it must be at least 1.")
        return cls(split, length, size, int(options["seed"]))

    @property
    def name(self) -> str:
        """The data set's name and the part's."""
        return f"Demo {self.part}"

    @property
    def label_map(self) -> dict[int, int]:
        """Nothing is replaced."""
        return {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self.length:
            raise IndexError(f"{self.name} has {self.length} pictures, asked for number {index}")
        rng = np.random.default_rng((self.seed, _PARTS[self.part], index))
        image, label = draw_scene(rng, self.image_size)
        meta = {
            "name": f"{self.part}_{index:05d}",
            "image_path": None,
            "label_path": None,
            "num_classes": len(self.classes),
            "ignore_index": self.ignore_index,
            "reduce_zero_label": False,
            "label_map": {},
            "original_size": self.image_size,
        }
        return {"image": image, "label": label, "meta": meta}

    def size(self, index: int) -> Size:
        """Height and width of a picture."""
        return self.image_size


def draw_scene(rng: np.random.Generator, size: Size) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """One picture and its label: two to five shapes that may cover each other, on a cluttered background."""
    height, width = size
    image = _background(rng, size)
    label = np.zeros(size, np.uint8)
    scale = min(height, width)
    for _ in range(int(rng.integers(2, 6))):
        kind = int(rng.integers(1, 6))
        radius = scale * rng.uniform(0.2, 0.34)
        center = np.array([rng.uniform(0.05, 0.95) * width, rng.uniform(0.08, 0.92) * height])
        _draw_object(rng, image, label, kind, center, radius)
    _light(rng, image)
    noise = rng.standard_normal((height, width), dtype=np.float32)[..., None] * rng.uniform(2, 6)
    image += noise
    return np.clip(image, 0, 255).astype(np.uint8), label


def _color(rng: np.random.Generator) -> Float32[np.ndarray, "3"]:
    return rng.uniform(25, 235, 3).astype(np.float32)


def _object_color(rng: np.random.Generator, kind: int) -> Float32[np.ndarray, "3"]:
    """A strong colour whose hue hints at the class: families that overlap a little with their neighbours."""
    hue = (kind * 0.2 + rng.normal(0, 0.045)) % 1
    color = colorsys.hsv_to_rgb(hue, rng.uniform(0.55, 0.95), rng.uniform(0.65, 1))
    return np.array(color, np.float32) * 255


def _background(rng: np.random.Generator, size: Size) -> Float32[np.ndarray, "h w 3"]:
    """Soft clouds of two dull colours, with thin lines and specks as clutter."""
    height, width = size
    coarse = rng.random((5, 6), dtype=np.float32)
    fine = rng.random((14, 18), dtype=np.float32)
    clouds = 0.7 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    clouds += 0.3 * cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)
    grey = rng.uniform(60, 190)
    first, second = (grey + rng.uniform(-30, 30, 3).astype(np.float32) for _ in range(2))
    image = np.ascontiguousarray(first + clouds[..., None] * (second - first), dtype=np.float32)
    for _ in range(int(rng.integers(3, 9))):
        ends = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        start, end = ((int(x), int(y)) for x, y in ends)
        cv2.line(image, start, end, _color(rng).tolist(), int(rng.integers(1, 3)))
    for x, y in rng.uniform(0, 1, (int(rng.integers(5, 20)), 2)) * (width, height):
        cv2.circle(image, (int(x), int(y)), int(rng.integers(1, 3)), _color(rng).tolist(), -1)
    return image


def _regular(rng: np.random.Generator, corners: int, radius: float) -> np.ndarray:
    """A turned polygon with equal sides, slightly irregular, around the origin."""
    angles = np.arange(corners) * (2 * np.pi / corners) + rng.uniform(0, 2 * np.pi)
    angles += rng.uniform(-0.12, 0.12, corners)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _cross(rng: np.random.Generator, radius: float) -> np.ndarray:
    arm = radius * rng.uniform(0.33, 0.43)
    quarter = np.array([(radius, -arm), (radius, arm), (arm, arm)])
    turns = [np.array([(np.cos(a), np.sin(a)), (-np.sin(a), np.cos(a))]) for a in np.arange(4) * np.pi / 2]
    points = np.concatenate([quarter @ turn for turn in turns])
    angle = rng.uniform(0, np.pi / 2)
    return points @ np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])


def _outline(
    rng: np.random.Generator, kind: int, center: np.ndarray, radius: float, size: Size
) -> UInt8[np.ndarray, "h w"]:
    """The share of each pixel that the shape covers, in 0..255."""
    cover = np.zeros(size, np.uint8)
    at = [round(float(v) * (1 << _SHIFT)) for v in center]

    def disk(value: int, r: float) -> None:
        cv2.circle(cover, at, round(r * (1 << _SHIFT)), value, -1, cv2.LINE_AA, _SHIFT)

    if kind in (1, 4):
        disk(255, radius)
        if kind == 4:
            disk(0, radius * rng.uniform(0.38, 0.5))
        return cover
    points = _cross(rng, radius * 1.15) if kind == 5 else _regular(rng, {2: 4, 3: 3}[kind], radius * 1.2)
    points = np.rint((points + center) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(cover, [points], 255, cv2.LINE_AA, _SHIFT)
    return cover


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.sin(u) > 0).astype(np.float32)


def _checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ((np.sin(0.7 * u) > 0) ^ (np.sin(0.7 * v) > 0)).astype(np.float32)


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.sin(u) * np.sin(v) > 0.3).astype(np.float32)


def _plain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 0.15 * np.sin(0.4 * u)


# The weave is a hint at the class, as cloth and brick are in photographs.
_TEXTURES: dict[int, Callable] = {1: _plain, 2: _stripes, 3: _dots, 4: _plain, 5: _checks}


def _draw_object(
    rng: np.random.Generator,
    image: np.ndarray,
    label: np.ndarray,
    kind: int,
    center: np.ndarray,
    radius: float,
) -> None:
    """Draws one shape with texture, shading and a shadow into the image, and its class into the label."""
    height, width = label.shape
    reach = int(radius * 1.3) + 5
    left, top = max(int(center[0]) - reach, 0), max(int(center[1]) - reach, 0)
    box = np.s_[top : min(int(center[1]) + reach, height), left : min(int(center[0]) + reach, width)]
    part, part_label = image[box], label[box]
    cover = _outline(rng, kind, center - (left, top), radius, part_label.shape)

    shadow = cv2.blur(cv2.warpAffine(cover, _SHADOW, cover.shape[::-1]), (5, 5))
    part *= 1 - shadow[..., None] * np.float32(0.5 / 255)

    rows, columns = np.indices(cover.shape, dtype=np.float32)
    x, y = columns - np.float32(center[0] - left), rows - np.float32(center[1] - top)
    angle, frequency = rng.uniform(0, np.pi), np.float32(rng.uniform(0.6, 0.95))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    weave = _TEXTURES[kind](frequency * (cos * x + sin * y), frequency * (cos * y - sin * x))
    first = _object_color(rng, kind)
    second = first * np.float32(rng.uniform(0.4, 0.65))
    shading = 1.1 + (x * np.float32(-0.25) + y * np.float32(-0.35)) / np.float32(radius)
    paint = (first + weave[..., None] * (second - first)) * shading[..., None]
    alpha = cover[..., None] * np.float32(1 / 255)
    part += (paint - part) * alpha
    part_label[cover > 127] = kind


def _light(rng: np.random.Generator, image: np.ndarray) -> None:
    """Light that falls off across the picture."""
    height, width = image.shape[:2]
    slope = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
    down, across = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
    image *= (1 + slope[0] * down[:, None] + slope[1] * across)[..., None]


def write_demo(root: str | Path, train: int = 16, val: int = 8, size: Size = (96, 128), seed: int = 0) -> Path:
    """Writes the demo set as a folder data set: `images/{train,val}/*.png`, `annotations/{train,val}/*.png`.

    It reads back with `data.dataset = "FolderDataset"` and the classes of the demo set. Returns the root.
    """
    root = Path(root)
    for part, length in (("train", train), ("val", val)):
        source = DemoSource(part, length, size, seed)
        images, masks = root / "images" / part, root / "annotations" / part
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        for index in range(length):
            record = source[index]
            name = f"{record['meta']['name']}.png"
            cv2.imwrite(str(images / name), cv2.cvtColor(record["image"], cv2.COLOR_RGB2BGR))
            cv2.imwrite(str(masks / name), record["label"])
    return root
