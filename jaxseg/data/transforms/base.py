"""What every transform shares: records in, records out, and the sizes that can come out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jaxseg.errors import ConfigError, did_you_mean

Record = dict[str, Any]
"""`{"image": uint8 [H W C] RGB, "label": uint8|int32 [H W], "meta": {...}}`; only meta before loading.

There is an "edge", uint8 [H W], after GenerateEdge."""
Size = tuple[int, int]
"""(height, width) in pixels."""


class Transform:
    """One step of a pipeline: a frozen dataclass, called with `(record, rng)`, that returns a new record.

    It never writes into the arrays it is given, so a record can be shared between threads.
    """

    random: ClassVar[bool] = False
    """Whether the outcome depends on the generator. A pipeline with such a step is one for training."""

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


def map_arrays(record: Record, image: Callable, label: Callable) -> Record:
    """Applies one function to the image and another to the label and the edges, where the record has them."""
    out = {**record, "image": image(record["image"])}
    for name in ("label", "edge"):
        if record.get(name) is not None:
            out[name] = label(record[name])
    return out


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
    """Transforms in a row, itself called with `(record, rng)`."""

    steps: tuple[Transform, ...]

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Applies every step in turn."""
        for step in self.steps:
            record = step(record, rng)
        return record

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


def colour_tuple(owner: Any, name: str, value: float | Sequence[float]) -> tuple[int, ...]:
    """A field with one grey value or one value a channel, in 0..255; rounded, as images are uint8."""
    values = tuple(value) if isinstance(value, Sequence | np.ndarray) else (value,)
    if not values or not all(0 <= item <= 255 for item in values):
        raise ConfigError(
            f"{type(owner).__name__}.{name} is {value!r}; it must be a number in 0..255, or one for each channel."
        )
    return tuple(round(float(item)) for item in values)
