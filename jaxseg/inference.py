"""Inference: whole images, sliding windows, and the Segmenter that users hold."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int, Real, UInt8

from jaxseg import config as run_config
from jaxseg.data import build_transforms
from jaxseg.data.masks import MOST_BITS, to_bits
from jaxseg.data.rasters import DTYPES
from jaxseg.data.transforms import LABEL_LOADERS
from jaxseg.data.transforms.loading import LoadImage
from jaxseg.engine.checkpoint import CHECKPOINT_FOLDER, best_step, find_steps, read_items
from jaxseg.engine.step import normalise
from jaxseg.engine.weights import holds_weights, read_weights
from jaxseg.errors import CheckpointError, ConfigError, DataError, did_you_mean
from jaxseg.mmseg import pretrained, zoo
from jaxseg.models import build_model
from jaxseg.models.layers.platform import jit
from jaxseg.models.layers.resize import resize
from jaxseg.models.names import variable_shapes
from jaxseg.models.registry import Config
from jaxseg.text.vocabulary import with_vocabulary
from jaxseg.visualize.bands import as_picture
from jaxseg.visualize.files import write_png
from jaxseg.visualize.overlay import overlay

# Settings in a `test_cfg` that heads of points take, not `segment`.
OF_POINT_HEADS = ("subdivision_steps", "subdivision_num_points", "scale_factor")


def encode_decode(
    model: nn.Module, variables: Mapping[str, Any], images: Float[Array, "b h w c"]
) -> Float[Array, "b h w classes"]:
    """Logits of normalised images, at the images' size."""
    logits = model.apply(variables, images, train=False)["decode"]
    return resize(logits, images.shape[1:3], align_corners=model.final_head.align_corners)


def segment(
    model: nn.Module, variables: Mapping[str, Any], images: Float[Array, "b h w c"]
) -> Float[Array, "b h w classes"]:
    """Logits of normalised images by the model's `test_cfg`.

    {"mode": "whole"} takes each image as it is. {"mode": "slide", "crop_size": (h, w), "stride": (h, w)} averages
    the logits of overlapping windows; an image smaller than the window is one window of its own size. With
    "size_divisor" in it, images get a border of zeros at the bottom and at the right, up to multiples of that.

    Raises:
        ConfigError: The `test_cfg` can't be used.
    """
    check_test_cfg(model.test_cfg)
    height, width = images.shape[1:3]
    divisor = model.test_cfg.get("size_divisor") or 1
    images = jnp.pad(images, ((0, 0), (0, -height % divisor), (0, -width % divisor), (0, 0)))
    whole = model.test_cfg.get("mode", "whole") == "whole"
    logits = encode_decode(model, variables, images) if whole else _slide(model, variables, images)
    return logits[:, :height, :width]


def _slide(model: nn.Module, variables: Mapping[str, Any], images: Float[Array, "b h w c"]) -> Array:
    """The mean of the logits of overlapping windows."""
    height, width = images.shape[1:3]
    rows = _window_starts(height, model.test_cfg["crop_size"][0], model.test_cfg["stride"][0])
    columns = _window_starts(width, model.test_cfg["crop_size"][1], model.test_cfg["stride"][1])
    size = [min(length, crop) for length, crop in zip((height, width), model.test_cfg["crop_size"], strict=True)]
    total = jnp.zeros((*images.shape[:3], model.final_head.logit_channels), jnp.float32)
    count = jnp.zeros((1, height, width, 1), jnp.float32)
    for top in rows:
        for left in columns:
            window = (slice(None), slice(top, top + size[0]), slice(left, left + size[1]))
            total = total.at[window].add(encode_decode(model, variables, images[window]))
            count = count.at[window].add(1)
    return total / count


def check_test_cfg(test_cfg: Config) -> None:
    """Refuses a `test_cfg` that `segment` can't follow.

    Raises:
        ConfigError: Names the field, and the nearest known one.
    """
    mode, fields = test_cfg.get("mode", "whole"), ("mode", "crop_size", "stride", "size_divisor", *OF_POINT_HEADS)
    if mode not in ("whole", "slide"):
        raise ConfigError(f"model.test_cfg.mode={mode!r} is not known. {did_you_mean(mode, ['whole', 'slide'])}")
    for name in test_cfg:
        if name not in fields:
            raise ConfigError(f"model.test_cfg has no field {name!r}. {did_you_mean(name, fields)}")
    divisor = test_cfg.get("size_divisor")
    if divisor is not None and (not isinstance(divisor, int) or divisor < 1):
        raise ConfigError(f"model.test_cfg.size_divisor={divisor!r} must be a whole number, at least 1")
    for name in fields[1:3] if mode == "slide" else ():
        size = test_cfg.get(name)
        if not isinstance(size, Sequence) or len(size) != 2 or min(size) < 1:
            raise ConfigError(f"model.test_cfg.{name}={size!r} must be a height and a width to slide a window")


def _window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin; the last one ends at the border."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return sorted({max(min(i * stride + window, length) - window, 0) for i in range(count)})


def to_labels(
    model: nn.Module, logits: Float[Array, "b h w c"], multi_label: bool = False
) -> Int[Array, "b h w"] | Int[Array, "b h w c"]:
    """The class of every pixel: the largest logit, or a threshold where there is one logit only.

    Where a pixel may have several classes: 1 for every one whose probability is over one half, else 0.
    """
    if multi_label:
        return (logits > 0).astype(jnp.int32)
    if logits.shape[-1] > 1:
        return jnp.argmax(logits, axis=-1)
    threshold = model.final_head.threshold
    return (jax.nn.sigmoid(logits[..., 0]) > (0.3 if threshold is None else threshold)).astype(jnp.int32)


def make_predict(
    model: nn.Module, preprocess: Config, size: Sequence[int] | None = None, multi_label: bool = False
) -> Callable[[Mapping[str, Any], Array], tuple[Int[Array, "b h w *k"], Float[Array, "b h w c"]]]:
    """Builds `predict(variables, images) -> labels, logits` for images as they are loaded, to be jitted.

    Args:
        model: The segmentor.
        preprocess: `mean` and `std`, in the units of the images.
        size: Height and width of the result; None: those of the images.
        multi_label: Whether a pixel may have several classes; labels are [b h w classes] then.
    """

    def predict(variables, images):
        logits = segment(model, variables, normalise(images, preprocess["mean"], preprocess["std"]))
        if size is not None:
            logits = resize(logits, size, align_corners=model.final_head.align_corners)
        return to_labels(model, logits, multi_label), logits

    return predict


@dataclasses.dataclass(frozen=True)
class SegmentationResult:
    """What was predicted for one image.

    Attributes:
        label_map: Class index of every pixel, at the size of the image; 0 or 1 for every class, where a pixel may have
            several.
        logits: Scores before softmax (or sigmoid, where there is one channel, or a pixel may have several classes).
        image: The image itself, RGB, or with the channels that it has.
        classes, palette: Names and colours of the classes.
        name: The image's name, without suffix.
    """

    label_map: Int[np.ndarray, "h w *k"]
    logits: Float[np.ndarray, "h w c"]
    image: Real[np.ndarray, "h w channels"]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    name: str = "image"

    @functools.cached_property
    def probabilities(self) -> Float[np.ndarray, "h w classes"]:
        """Probability of every class, summing to 1 at every pixel unless that may have several classes."""
        if self.label_map.ndim == 3:
            return 1 / (1 + np.exp(-self.logits))
        if self.logits.shape[-1] == 1:
            positive = 1 / (1 + np.exp(-self.logits))
            return np.concatenate([1 - positive, positive], axis=-1)
        shifted = np.exp(self.logits - self.logits.max(-1, keepdims=True))
        return shifted / shifted.sum(-1, keepdims=True)

    def overlay(self, opacity: float = 0.5) -> UInt8[np.ndarray, "h w 3"]:
        """The image with the classes' colours over it."""
        return overlay(as_picture(self.image), self.label_map, self.palette, opacity)

    def save(self, folder: str | Path, name: str | None = None) -> tuple[Path, Path]:
        """Writes `NAME.png`, the label map (class indices), and `NAME_overlay.png`; returns their paths.

        Where a pixel may have several classes, bit k of its number in the label map says whether class k is there; of
        more than 16 classes the label map is `NAME.npy`, uint8 [h w classes] of 0 and 1.

        Args:
            folder: Where; made where it is missing.
            name: May have folders of its own; None: the image's name.
        """
        dtype = np.uint8 if len(self.classes) <= 256 else np.uint16
        paths = result_paths(folder, name or self.name)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_png(paths[1], self.overlay())
        if self.label_map.ndim == 3 and len(self.classes) > MOST_BITS:
            paths = (paths[0].with_suffix(".npy"), paths[1])
            np.save(paths[0], self.label_map.astype(np.uint8))
        else:
            write_png(paths[0], self.label_map.astype(dtype) if self.label_map.ndim == 2 else to_bits(self.label_map))
        return paths


def result_paths(folder: str | Path, name: str) -> tuple[Path, Path]:
    """Where the label map and the overlay of an image go."""
    return Path(folder) / f"{name}.png", Path(folder) / f"{name}_overlay.png"


class Segmenter:
    """A trained model, ready to segment images.

    Compiles once for each size of image. Use `jaxseg.load`, which makes one.

    Args:
        config: The recipe that the model was trained with.
        variables: {"params": ..., "batch_stats": ...}.
        step: Training steps behind the variables.
    """

    def __init__(self, config: Config, variables: Mapping[str, Any], step: int | None = None):
        self.config, self.variables, self.step = config, variables, step
        self.model = build_model(config["model"])
        self.classes, self.palette = tuple(config["data"]["classes"]), tuple(config["data"]["palette"])
        configs = [t for t in config["data"]["test"]["transforms"] if t["type"] not in LABEL_LOADERS]
        self._transform = build_transforms(configs)
        self._compiled: dict[tuple[int, int], Callable] = {}
        self.multi_label = config["data"].get("masks") == "multi-label"
        self.channels = config["data"].get("channels")

    @functools.cached_property
    def ready_model(self) -> nn.Module:
        """The model; one that knows its classes by name has read them."""
        return with_vocabulary(self.model, self.variables)

    def predict(self, images: Any, tta: bool = False) -> "SegmentationResult | list[SegmentationResult]":
        """Segments images.

        Args:
            images: A path, a uint8 RGB array [h w 3], a PIL image, or a list of such; of a model for images as they are
                stored (`data.channels`) a path or an array [h w channels].
            tta: Whether to average over flips, too.

        Returns:
            A result, or a list of them for a list.

        Raises:
            DataError: A file can't be read, or an array is not an image.
        """
        if isinstance(images, list | tuple):
            return [self.predict(image, tta) for image in images]
        rng = np.random.default_rng(0)
        record = LoadImage()(_record(images, self.channels), rng)
        original = record["image"]
        batch = self._transform(record, rng)["image"][None]
        if tta:
            batch = np.concatenate([batch, batch[:, :, ::-1]])
        labels, logits = self._predictor(original.shape[:2])(self.variables, batch)
        if tta:
            # The mean of probabilities, as logits again.
            softmax = logits.shape[-1] > 1 and not self.multi_label
            probabilities = jax.nn.softmax(logits) if softmax else jax.nn.sigmoid(logits)
            mean = (probabilities[:1] + probabilities[1:, :, ::-1]) / 2
            logits = jnp.log(mean) if softmax else jnp.log(mean) - jnp.log1p(-mean)
            labels = to_labels(self.model, logits, self.multi_label)
        return SegmentationResult(
            np.asarray(labels[0]), np.asarray(logits[0]), original, self.classes, self.palette, record["meta"]["name"]
        )

    def _predictor(self, size: tuple[int, int]) -> Callable:
        if size not in self._compiled:
            self._compiled[size] = jit(
                make_predict(self.ready_model, self.config["preprocess"], size, self.multi_label)
            )
        return self._compiled[size]


def load(what: str | Path | tuple[Any, str | Path], step: int | None = None) -> Segmenter:
    """The Segmenter of a trained model; see `jaxseg.load`."""
    if isinstance(what, tuple | list):
        config, checkpoint = what
        return _segmenter(pretrained.read_pretrained(checkpoint, config))
    if Path(what).is_dir():
        return load_run(what, step)
    if Path(what).is_file():
        return _segmenter(pretrained.read_pretrained(what))
    try:
        zoo.find(str(what))
    except ConfigError as error:
        raise ConfigError(
            f"{what} is no folder, no file, and no published model. {str(error).split('. ')[-1]}"
        ) from error
    return _segmenter(pretrained.read_published(str(what)))


def load_run(folder: str | Path, step: int | None = None) -> Segmenter:
    """The Segmenter of a run folder.

    Args:
        folder: Made by `python -m jaxseg.train` or `python -m jaxseg.convert`.
        step: Which checkpoint; None: the best one, or the latest where none was evaluated.

    Raises:
        ConfigError: It is not a run folder.
        CheckpointError: There is no such checkpoint, or it is damaged: another one is never taken in its place.
    """
    config, variables, step = read_run(folder, step)
    return _complete(Segmenter(config, variables, step), folder)


def read_run(folder: str | Path, step: int | None = None) -> tuple[Config, dict[str, Any], int]:
    """The config, the variables and the step of a run folder; arguments and errors as for `load_run`.

    A folder of a converted backbone has no more than that.
    """
    config = run_config.load(folder)
    if holds_weights(folder):
        variables, there = read_weights(folder)
        if step not in (None, there):
            raise CheckpointError(f"{folder} has no step {step}; there is {there} alone.")
        return config, variables, there
    checkpoints = Path(folder) / CHECKPOINT_FOLDER
    metric = config["checkpoint"]["metric"]
    step = best_step(checkpoints, metric) if step is None else step
    there = find_steps(checkpoints)
    if step not in there:
        raise CheckpointError(f"{checkpoints} has no step {step}; there are {there}.")
    shapes = {"batch_stats": {}, **unflatten_dict(variable_shapes(build_model(config["model"])))}
    try:
        return config, read_items(checkpoints, step, {"variables": shapes})["variables"], step
    except CheckpointError as error:
        others = [other for other in there if other != step]
        hint = f"Choose another as step: {others}." if others else "There is no other."
        raise CheckpointError(f"{error} {hint}") from error


def _segmenter(model: pretrained.Pretrained) -> Segmenter:
    return _complete(Segmenter(model.config, model.variables, model.step), model.config.name)


def _complete(segmenter: Segmenter, where: str | Path) -> Segmenter:
    """The Segmenter, if it has all its variables."""
    there = {path[1] for path in flatten_dict(segmenter.variables)}
    missing = {path[1] for path in variable_shapes(segmenter.model)} - there
    if missing:
        raise CheckpointError(
            f"{where} holds weights of {', '.join(sorted(there))} alone, without {', '.join(sorted(missing))}: "
            "train from them (--config.init_from), then use the result."
        )
    return segmenter


def starting_weights(what: str, model: nn.Module) -> dict[str, Any]:
    """Variables to start training from.

    Args:
        what: A run folder or a converted one, a checkpoint file of PyTorch's, or the name of a published model.
        model: The model to train.

    Raises:
        ConfigError: It is none of these.
        CheckpointError: It can't be read, or is of another model.
    """
    if Path(what).is_dir():
        return read_run(what)[1]
    if not Path(what).is_file():
        try:
            what = zoo.download(what)
        except ConfigError as error:
            raise ConfigError(f"init_from={what} is no folder, no file, and no published model") from error
    return pretrained.starting_weights(what, model)


def _record(image: Any, channels: int | None = None) -> dict[str, Any]:
    """An image as the transforms take it; with `channels`, one as it is stored."""
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        return {"meta": {"name": path.stem, "image_path": str(path), "label_path": None, "channels": channels}}
    array = np.asarray(image.convert("RGB") if hasattr(image, "convert") and channels is None else image)
    if channels is not None:
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3 or array.shape[2] != channels or array.dtype not in DTYPES:
            raise DataError(
                f"An image must be a path or an array [height width {channels}] of uint8, uint16 or float32, as "
                f"data.channels is {channels}; got {array.dtype} {array.shape}"
            )
        return {"image": array, "meta": {"name": "image", "image_path": None, "label_path": None}}
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise DataError(
            f"An image must be a path, a PIL image or a uint8 array [height width 3]; got {array.dtype} {array.shape}"
        )
    return {"image": array, "meta": {"name": "image", "image_path": None, "label_path": None}}
