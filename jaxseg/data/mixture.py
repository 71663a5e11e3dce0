"""Several sources as one: data sets, folders, splits or lists of files, each as often as its weight says."""

import functools
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

from ml_collections import ConfigDict

from jaxseg.config import PART_FIELDS
from jaxseg.data.datasets import Color
from jaxseg.data.sources import Source, build_source
from jaxseg.data.transforms.base import Record, Size
from jaxseg.errors import ConfigError, did_you_mean

_COMMON = ("dataset", "root", "classes", "palette", "ignore_index")
# What describes one data set only: an entry of another data set does not take it over from `config.data`.
_OF_THE_DATA_SET = (*(name for name in PART_FIELDS if name not in _COMMON), "split_file")
_LONGEST = 2**31  # records in one pass, which are shuffled as numbers of 32 bits


@dataclass(frozen=True)
class Mixture:
    """The records of several sources, one after another, each source's as often as it is repeated.

    Which record has a number depends on the lengths of the sources and their repetitions only, so a stream that is
    shuffled over the numbers is a function of its seed.

    Attributes:
        sources: they have the same classes and the same ignored label.
        repeats: how often each is there in one pass.
        names: of the sources, for messages.
    """

    sources: tuple[Source, ...]
    repeats: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The names of the sources, with how often each is there."""
        times = (f"{count} x " if count > 1 else "" for count in self.repeats)
        return " + ".join(count + name for count, name in zip(times, self.names, strict=True))

    @property
    def classes(self) -> tuple[str, ...]:
        """Of all sources."""
        return self.sources[0].classes

    @property
    def palette(self) -> tuple[Color, ...]:
        """Of the first source."""
        return self.sources[0].palette

    @property
    def ignore_index(self) -> int:
        """Of all sources."""
        return self.sources[0].ignore_index

    @property
    def reduce_zero_label(self) -> bool:
        """Whether any source's masks count from 1; a record's meta has that of its own source."""
        return any(source.reduce_zero_label for source in self.sources)

    @property
    def label_map(self) -> dict[int, int]:
        """That of the sources if it is the same; a record's meta has that of its own source."""
        maps = [source.label_map for source in self.sources]
        return maps[0] if all(one == maps[0] for one in maps) else {}

    def __len__(self) -> int:
        return self._ends[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the source that a record is of, and its number in there."""
        ends = self._ends
        if not 0 <= index < ends[-1]:
            raise IndexError(f"{self.name} has {ends[-1]} records, asked for number {index}")
        place = bisect_right(ends, index)
        start = ends[place - 1] if place else 0
        return place, (index - start) % len(self.sources[place])

    def __getitem__(self, index: int) -> Record:
        place, inner = self.locate(index)
        return self.sources[place][inner]

    def size(self, index: int) -> Size:
        """Height and width of an image, without decoding it."""
        place, inner = self.locate(index)
        return self.sources[place].size(inner)

    @functools.cached_property
    def _ends(self) -> list[int]:
        """Of each source, the number after its last record; computed once, not for every record."""
        return list(accumulate(len(one) * count for one, count in zip(self.sources, self.repeats, strict=True)))


def build_mixture(data: Mapping[str, Any], part: str) -> Source:
    """Makes the source of a part with `sources`, each a dict of what it has otherwise than `config.data`.

    An entry may have all fields of a part (`dataset`, `root`, `split`, `split_file`, folders, suffixes, meaning of
    labels) and `weight`, how often each of its images comes for one of the others: 2 for twice as often, 0.5 for half
    as often; 1 by default, and two decimals at most. What an entry does not say, it has of the part and of
    `config.data`; but of those, an entry of another `dataset` has the classes, their colours, the ignored label and
    the root only.

    Raises:
        ConfigError: unknown fields, weights that are none, sources with other classes or another ignored label, or
            weights for a part to evaluate on.
        DataError: what `build_source` says of one of them.
    """
    entries = data[part]["sources"]
    shared = {name: value for name, value in data[part].items() if name != "sources"}
    known = (*PART_FIELDS, "split", "split_file", "weight")
    sources, weights = [], []
    for number, entry in enumerate(entries):
        where = f"data.{part}.sources[{number}]"
        if not isinstance(entry, Mapping | ConfigDict):
            raise ConfigError(f"{where} is {entry!r}; it must be a dict such as {{'root': ..., 'weight': 2.0}}.")
        for name in entry:
            if name not in known:
                raise ConfigError(f"{where} has no field {name!r}. {did_you_mean(name, known)}")
        given = {name: value for name, value in entry.items() if name != "weight"}
        weights.append(_weight(entry.get("weight", 1), where, part))
        sources.append(_build(data, shared, given, part, where))
    _check_alike(sources, part)
    roots = (f" of {entry['root']}" if entry.get("root") else "" for entry in entries)
    names = tuple(source.name + root for source, root in zip(sources, roots, strict=True))
    return Mixture(tuple(sources), _repeats(weights, sources, part), names)


def _build(
    data: Mapping[str, Any], shared: Mapping[str, Any], given: Mapping[str, Any], part: str, where: str
) -> Source:
    """The source of one entry."""
    usual = shared.get("dataset") or data.get("dataset")
    if given.get("dataset", usual) != usual:
        data, shared = (
            {name: value for name, value in fields.items() if name not in _OF_THE_DATA_SET} for fields in (data, shared)
        )
    try:
        return build_source({**data, part: {**shared, **given}}, part)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _weight(value: Any, where: str, part: str) -> Fraction:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value <= 0 or Fraction(str(value)) * 100 % 1:
        raise ConfigError(f"{where}.weight is {value!r}; it must be a positive number with at most two decimals.")
    if part != "train" and value != 1:
        raise ConfigError(f"{where}.weight is {value!r}; to evaluate, every image is taken once: leave it out.")
    return Fraction(str(value))


def _repeats(weights: Sequence[Fraction], sources: Sequence[Source], part: str) -> tuple[int, ...]:
    """The smallest whole numbers in the ratio of the weights."""
    whole = [int(weight * math.lcm(*(each.denominator for each in weights))) for weight in weights]
    repeats = tuple(count // math.gcd(*whole) for count in whole)
    if sum(count * len(source) for count, source in zip(repeats, sources, strict=True)) >= _LONGEST:
        listed = ", ".join(str(float(weight)) for weight in weights)
        raise ConfigError(f"data.{part}.sources: the weights {listed} are too far apart; take rounder ones.")
    return repeats


def _check_alike(sources: Sequence[Source], part: str) -> None:
    first = sources[0]
    for number, source in enumerate(sources):
        where, of = f"data.{part}.sources[{number}] ({source.name})", f"those of sources[0] ({first.name})"
        if source.classes != first.classes:
            pairs = zip(source.classes, first.classes, strict=False)
            place = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
            differs = (
                f"{len(source.classes)} classes, and sources[0] has {len(first.classes)}"
                if place is None
                else f"{source.classes[place]!r} as class {place}, and sources[0] has {first.classes[place]!r}"
            )
            raise ConfigError(
                f"{where}: the classes must be {of}, in their order. It has {differs}. Set data.classes to names that "
                "all of them have, or read it as a FolderDataset with a label_map of its own."
            )
        several = [getattr(each, "masks", "indices") == "multi-label" for each in (source, first)]
        if several[0] != several[1]:
            raise ConfigError(f"{where}: data.masks is 'multi-label' for some sources only; a batch needs one kind.")
        if source.ignore_index != first.ignore_index:
            raise ConfigError(
                f"{where}: ignore_index is {source.ignore_index}, but that of sources[0] is {first.ignore_index}; set "
                "data.ignore_index for all of them."
            )
