"""Transforms of the package albumentations, which is optional, with random numbers of ours."""

import functools
import inspect
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.data.transforms.base import RandomTransform, Record
from jaxseg.data.transforms.color import check_image
from jaxseg.errors import ConfigError, DataError, did_you_mean

_TARGETS = {"image": "image", "image2": "image", "label": "mask", "edge": "mask"}
_NAMES = {"image": "image", "image2": "image2", "label": "mask", "edge": "edge"}  # in albumentations


class MissingPackage(ConfigError):
    """The package is not installed, or too old; the config may be right."""


@dataclass(frozen=True)
class Albu(RandomTransform):
    """Runs transforms of albumentations on the image and the label.

    What is drawn is a seed for albumentations, so the outcome depends on the record's generator only. Images must
    be of 8 bits. Both dates of a pair of images, and the edges, are transformed alike. Of what changes the size
    of images nothing is known beforehand: crop or pad to one size after it.

    Attributes:
        transforms: configs `{"type": name, field: value, ...}` of albumentations' classes; those that hold others
            (OneOf, Sequential) have them in a field `transforms`.
    """

    transforms: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        _built(_frozen(self.transforms, "Albu.transforms"))  # what is wrong with them shows here

    def draw(self, record: Record, rng: np.random.Generator) -> int:
        """A seed."""
        return int(rng.integers(2**32))

    def apply(self, record: Record, params: int) -> Record:
        """Runs the transforms with random numbers of the seed `params`."""
        check_image(self, record, np.uint8)
        compose = _built(_frozen(self.transforms, "Albu.transforms")).own()
        compose.set_random_seed(params)
        given = {_NAMES[name]: record[name] for name in _TARGETS if record.get(name) is not None}
        try:
            result = compose(**{name: np.ascontiguousarray(array) for name, array in given.items()})
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"Albu: albumentations cannot transform {record['meta'].get('image_path')}: {error}"
            ) from error
        return {**record, **{name: result[_NAMES[name]] for name in _TARGETS if record.get(name) is not None}}


class _Compose:
    """A composition for each thread: albumentations keeps its random numbers in it."""

    def __init__(self, make: Any) -> None:
        self._make, self._local = make, threading.local()
        self._local.compose = make()

    def own(self) -> Any:
        """That of the thread that asks."""
        if not hasattr(self._local, "compose"):
            self._local.compose = self._make()
        return self._local.compose


@functools.lru_cache(maxsize=64)
def _built(transforms: tuple[Any, ...]) -> _Compose:
    """The composition of frozen configs; built once in each process.

    Raises:
        ConfigError: albumentations is missing or too old, or cannot build them.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or it asks the network for news of itself
    try:
        import albumentations
    except ImportError as error:
        raise MissingPackage(
            "Albu needs the package albumentations, which is not installed: pip install 'jaxseg[albumentations]'"
        ) from error
    if not hasattr(albumentations.Compose, "set_random_seed"):
        raise MissingPackage(
            f"Albu needs albumentations 2.0 or newer, whose random numbers can be given; {albumentations.__version__} "
            "is installed: pip install --upgrade 'jaxseg[albumentations]'"
        )
    more = {_NAMES[name]: target for name, target in _TARGETS.items() if _NAMES[name] not in ("image", "mask")}

    def make() -> Any:
        steps = [_build(albumentations, config, f"Albu.transforms[{i}]") for i, config in enumerate(transforms)]
        return albumentations.Compose(steps, additional_targets=more)

    return _Compose(make)


def _frozen(value: Any, where: str) -> Any:
    """A config as tuples, which can be compared and kept."""
    if isinstance(value, Mapping):
        return ("dict", tuple((str(name), _frozen(item, f"{where}.{name}")) for name, item in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_frozen(item, f"{where}[{i}]") for i, item in enumerate(value))
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and value[0] == "dict":
        return {name: _thawed(item) for name, item in value[1]}
    return tuple(_thawed(item) for item in value) if isinstance(value, tuple) else value


def _build(library: Any, config: Any, where: str) -> Any:
    """One of albumentations' transforms, of its frozen config."""
    fields = _thawed(config)
    kind = fields.pop("type", None) if isinstance(fields, dict) else None
    if kind is None:
        raise ConfigError(f"{where} must be a config with a `type`, not {fields!r}.")
    known = [name for name in dir(library) if isinstance(getattr(library, name), type)]
    if kind not in known:
        raise ConfigError(f"{where}.type is {kind!r}, which albumentations does not have. {did_you_mean(kind, known)}")
    if "transforms" in fields:
        inner = config[1]
        nested = next(items for name, items in inner if name == "transforms")
        fields["transforms"] = [_build(library, item, f"{where}.transforms[{i}]") for i, item in enumerate(nested)]
    made = getattr(library, kind)
    unknown = _unknown(made, fields)
    if unknown is not None:
        raise ConfigError(f"{where}: {kind} has no field {unknown[0]!r}. {did_you_mean(*unknown)}")
    try:
        return made(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: albumentations cannot make {kind}: {error}") from error


def _unknown(made: type, fields: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """A field that a class does not have, of which albumentations only warns, and those it has."""
    known = list(inspect.signature(made.__init__).parameters)[1:]
    return next(((name, known) for name in fields if name not in known), None)
