"""What every transform shares: records in, records out, and the sizes that can come out."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jaxseg.errors import ConfigError, DataError, did_you_mean

Record = dict[str, Any]
"""`{"image": uint8 [H W C] RGB, "label": uint8|int32 [H W], "meta": {...}}`; only meta before loading.

Images of other kinds than photos are uint16 or float32, and have any number of channels. There may be an "image2",
the same place at another date, and after GenerateEdge there is an "edge", uint8 [H W]. The label is uint8 [H W K]
where a pixel may have several classes, and float32 [H W] where it is a depth. Volumes have an axis more, before H."""
Size = tuple[int, int]
"""(height, width) in pixels."""


class Transform:
    """One step of a pipeline: a frozen dataclass, called with `(record, rng)`, that returns a new record.

    It never writes into the arrays it is given, so a record can be shared between threads.
    """

    random: ClassVar[bool] = False
    """Whether the outcome depends on the generator. A pipeline with such a step is one for training."""
    loads: ClassVar[str | None] = None
    """What it reads from a file: "image" or "label"."""

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Returns the transformed record."""
        raise NotImplementedError

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The smallest and the largest image (h, w) that can come out of an image of `size`."""
        return size, size


class RandomTransform(Transform):
    """A transform in two halves: `draw` chooses, `apply` does what was chosen.

    The halves are apart so that given choices (of another program, or of a test) can be replayed.
    """

    random: ClassVar[bool] = True

    def draw(self, record: Record, rng: np.random.Generator) -> Any:
        """Chooses the parameters for this record; the only place that uses the generator."""
        raise NotImplementedError

    def apply(self, record: Record, params: Any) -> Record:
        """Returns the record transformed with the given parameters."""
        raise NotImplementedError

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Draws, then applies."""
        return self.apply(record, self.draw(record, rng))


class MixTransform(RandomTransform):
    """A transform that makes one record of several: it is given others, which the steps before it have run on.

    It runs in a Pipeline that is bound to a source (`Pipeline.bind`). Which others, and what becomes of them on
    the way, is drawn from the record's own generator.
    """

    mixes: ClassVar[int]
    """How many other records it takes."""

    def draw(self, record: Record, rng: np.random.Generator) -> Any | None:
        """Chooses the parameters; None leaves the record as it is, and no other is read."""
        raise NotImplementedError

    def apply(self, record: Record, params: Any, others: Sequence[Record] = ()) -> Record:
        """Returns what `params` makes of the record and the others."""
        raise NotImplementedError

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Raises a ConfigError: alone it has nothing to mix with."""
        raise unbound(self)


def unbound(step: MixTransform) -> ConfigError:
    """The error of a mixing step that has no source."""
    return ConfigError(
        f"{type(step).__name__} mixes a record with others: give the pipeline their source, "
        "build_transforms(...).bind(source). It is for training only."
    )


_IMAGES, _LABELS = ("image", "image2"), ("label", "edge")


def map_arrays(record: Record, image: Callable, label: Callable) -> Record:
    """Applies one function to the images and another to the label and the edges, where the record has them."""
    out = map_images(record, image)
    for name in _LABELS:
        if record.get(name) is not None:
            out[name] = label(record[name])
    return out


def map_images(record: Record, image: Callable) -> Record:
    """Applies a function to the image, and to that of the other date where the record has one."""
    out = {**record, "image": image(record["image"])}
    for name in _IMAGES[1:]:
        if record.get(name) is not None:
            out[name] = image(record[name])
    return out


def join_arrays(records: Sequence[Record], image: Callable, label: Callable) -> Record:
    """Makes one record of several: a function of their images gives the image, one of their labels the label.

    Everything else, and what the first does not have, is the first's.

    Raises:
        DataError: one of the others lacks what the first has.
    """
    out = dict(records[0])
    for names, join in ((_IMAGES, image), (_LABELS, label)):
        for name in names:
            arrays = [record.get(name) for record in records]
            if arrays[0] is None:
                continue
            lacking = next((r for r, array in zip(records, arrays, strict=True) if array is None), None)
            if lacking is not None:
                raise DataError(f"{name_of(lacking)} has no {name} and cannot be mixed with {name_of(records[0])}.")
            out[name] = join(arrays)
    return out


def name_of(record: Record) -> str:
    """What to call a record in a message: its file, or its name."""
    meta = record.get("meta", {})
    return str(meta.get("image_path") or meta.get("name") or "an image")


def set_fields(instance: Any, **values: Any) -> None:
    """Sets normalised values on a frozen dataclass, from its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def whole_pair(owner: Any, name: str, value: Any, meaning: str) -> tuple[int, int]:
    """A field that is one positive whole number or two of them; `meaning` names the two for the error."""
    pair = (value, value) if isinstance(value, int | np.integer) else tuple(value or ())
    whole = all(isinstance(item, int | np.integer) and not isinstance(item, bool) for item in pair)
    if len(pair) != 2 or not whole or min(pair) <= 0:
        raise ConfigError(
            f"{type(owner).__name__}.{name} is {value!r}; it must be two positive whole numbers, {meaning}."
        )
    return int(pair[0]), int(pair[1])


def check_probability(owner: Any, *names: str) -> None:
    """Checks fields that are probabilities."""
    for name in names:
        value = getattr(owner, name)
        if not is_number(value) or not 0 <= value <= 1:
            raise ConfigError(f"{type(owner).__name__}.{name} is {value!r}; it must be a probability, in 0..1.")


def number_pair(
    owner: Any, name: str, value: Any, least: float = -math.inf, most: float = math.inf
) -> tuple[float, float]:
    """A field that is (lowest, highest), both within bounds."""
    pair = tuple(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else ()
    if len(pair) != 2 or not all(is_number(item) for item in pair) or not least <= pair[0] <= pair[1] <= most:
        bounds = [f"at least {least:g}"] * math.isfinite(least) + [f"at most {most:g}"] * math.isfinite(most)
        within = f", {' and '.join(bounds)}" if bounds else ""
        raise ConfigError(f"{type(owner).__name__}.{name} is {value!r}; it must be (lowest, highest){within}.")
    return pair


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and not True or False."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) and math.isfinite(value)


def build_transform(config: Mapping[str, Any] | Transform, registry: Mapping[str, type]) -> Transform:
    """Makes one transform of its config, `{"type": name or class, field: value, ...}`.

    Raises:
        ConfigError: no or an unknown type, an unknown field, a missing field, a value that is not allowed.
    """
    if isinstance(config, Transform):
        return config
    fields = dict(config)
    kind = fields.pop("type", None)
    if kind is None:
        raise ConfigError(f"A transform needs a `type`, got {dict(config)!r}. " + did_you_mean("", registry))
    if not isinstance(kind, type):
        if kind not in registry:
            raise ConfigError(f"Unknown transform {kind!r}. {did_you_mean(str(kind), registry)}")
        kind = registry[kind]
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for name in fields:
        if name not in known:
            raise ConfigError(f"{kind.__name__} has no field {name!r}. {did_you_mean(name, known)}")
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in fields]
    if missing:
        raise ConfigError(f"{kind.__name__} needs the field {', '.join(missing)}; got {fields!r}.")
    return kind(**fields)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Transforms in a row, itself called with `(record, rng)`.

    Attributes:
        steps: the transforms.
        source: records by number, for steps that mix a record with others; see `bind`.
    """

    steps: tuple[Transform, ...]
    source: Sequence[Record] | None = dataclasses.field(default=None, repr=False, compare=False)

    def bind(self, source: Any) -> "Pipeline":
        """The same pipeline, whose mixing steps take other records of `source` (`len` and `[i]`)."""
        return dataclasses.replace(self, source=source)

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Applies every step in turn.

        Raises:
            ConfigError: a step mixes records, and the pipeline is not bound to a source.
        """
        return self._run(record, rng, len(self.steps))

    def _run(self, record: Record, rng: np.random.Generator, count: int) -> Record:
        """Applies the first `count` steps."""
        for place, step in enumerate(self.steps[:count]):
            record = self._mix(record, rng, place) if isinstance(step, MixTransform) else step(record, rng)
        return record

    def _mix(self, record: Record, rng: np.random.Generator, place: int) -> Record:
        step = self.steps[place]
        if self.source is None:
            raise unbound(step)
        params = step.draw(record, rng)
        if params is None:
            return record
        chosen = rng.integers(len(self.source), size=step.mixes)
        others = [self._run(self.source[int(index)], rng, place) for index in chosen]
        return step.apply(record, params, others)

    @property
    def random(self) -> bool:
        """Whether any step is random: then the pipeline is one for training."""
        return any(step.random for step in self.steps)

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The smallest and the largest image (h, w) that can come out of an image of `size`."""
        low = high = size
        for step in self.steps:
            low, high = step.sizes(low)[0], step.sizes(high)[1]
        return low, high


def refuse_mixing(transform: Any, purpose: str) -> None:
    """Refuses a pipeline that makes one record of several, where each record must be itself.

    Raises:
        ConfigError: it has such a step; names it.
    """
    step = next((step for step in getattr(transform, "steps", ()) if isinstance(step, MixTransform)), None)
    if step is not None:
        raise ConfigError(
            f"The transforms {purpose} have a {type(step).__name__}, which mixes a record with others: it is for "
            "data.train.transforms only."
        )


def colour_tuple(owner: Any, name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    """A field with one value, or one value a channel; which ones images can have shows where one is met (`as_fill`)."""
    values = tuple(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else (value,)
    if not values or not all(is_number(item) for item in values):
        raise ConfigError(
            f"{type(owner).__name__}.{name} is {value!r}; it must be a number that the images can have (0..255, unless "
            "they have more bits), or one for each channel."
        )
    return values


def as_fill(owner: Any, name: str, values: tuple[float, ...], image: np.ndarray) -> np.ndarray:
    """A colour for every channel of an image, of its type; rounded where that is whole numbers.

    Raises:
        ConfigError: one value too many or too few, or one that the type does not have.
    """
    channels = image.shape[-1] if image.ndim > 2 else 1
    if len(values) not in (1, channels):
        raise ConfigError(
            f"{type(owner).__name__}.{name} has {len(values)} values, but images have {channels} channels: give one "
            "value, or one for each channel."
        )
    fill = np.broadcast_to(np.asarray(values, np.float64), (channels,))
    if np.issubdtype(image.dtype, np.integer):
        fill = np.rint(fill)
        if fill.min() < 0 or fill.max() > np.iinfo(image.dtype).max:
            raise ConfigError(f"{type(owner).__name__}.{name} is {values}, but images are {image.dtype}.")
    return fill.astype(image.dtype)
