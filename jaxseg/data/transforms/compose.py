"""Transforms that hold others: run them or not, run one of several."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxseg.data.transforms.base import (
    MixTransform,
    Pipeline,
    RandomTransform,
    Record,
    Size,
    Transform,
    check_probability,
    is_number,
    set_fields,
)
from jaxseg.errors import ConfigError


def _pipeline(owner: Transform, configs: Any, where: str) -> Pipeline:
    """Transforms of their configs: one, or several."""
    from jaxseg.data.transforms import build_transforms  # its table has the classes of this module

    if isinstance(configs, Mapping | Transform):
        configs = (configs,)
    if not isinstance(configs, Sequence) or isinstance(configs, str) or not configs:
        raise ConfigError(f"{type(owner).__name__}.{where} is {configs!r}; it must be a list of transforms.")
    pipeline = build_transforms(configs)
    mixing = next((step for step in pipeline.steps if isinstance(step, MixTransform)), None)
    if mixing is not None:
        kind = type(mixing).__name__
        raise ConfigError(f"{type(owner).__name__}.{where} has a {kind}, which has a `prob` itself: put it by itself.")
    return pipeline


@dataclass(frozen=True)
class RandomApply(RandomTransform):
    """Runs transforms, or leaves the record.

    Attributes:
        transforms: configs, in their order.
        prob: probability that they run.
    """

    transforms: Sequence[Any]
    prob: float = 0.5
    pipeline: Pipeline = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_probability(self, "prob")
        set_fields(self, pipeline=_pipeline(self, self.transforms, "transforms"))

    def draw(self, record: Record, rng: np.random.Generator) -> int | None:
        """A seed for the transforms, or None to leave them out."""
        return int(rng.integers(2**32)) if rng.random() < self.prob else None

    def apply(self, record: Record, params: int | None) -> Record:
        """Runs them with the seed `params`."""
        return record if params is None else self.pipeline(record, np.random.default_rng(params))

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """Those of the transforms, and the size as it is."""
        return _widest([self.pipeline.sizes(size)] * (self.prob > 0) + [(size, size)] * (self.prob < 1))


class Choice(NamedTuple):
    """What a RandomChoice runs, by number, and a seed for it."""

    index: int
    seed: int


@dataclass(frozen=True)
class RandomChoice(RandomTransform):
    """Runs one of several lists of transforms.

    Attributes:
        transforms: the lists; a single transform is a list of one.
        prob: a probability for each, together 1; None for equal ones.
    """

    transforms: Sequence[Any]
    prob: Sequence[float] | None = None
    pipelines: tuple[Pipeline, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, Sequence) or not self.transforms:
            raise ConfigError(f"RandomChoice.transforms is {self.transforms!r}; it must be lists of transforms.")
        lists = enumerate(self.transforms)
        set_fields(self, pipelines=tuple(_pipeline(self, configs, f"transforms[{i}]") for i, configs in lists))
        if self.prob is None:
            return
        prob = tuple(self.prob) if isinstance(self.prob, Sequence) else ()
        right = len(prob) == len(self.pipelines) and all(is_number(share) and share >= 0 for share in prob)
        if not right or abs(sum(prob) - 1) > 1e-6:
            raise ConfigError(
                f"RandomChoice.prob is {self.prob!r}; it must be {len(self.pipelines)} probabilities, together 1."
            )
        set_fields(self, prob=prob)

    def draw(self, record: Record, rng: np.random.Generator) -> Choice:
        """Which list, and a seed for it."""
        return Choice(int(rng.choice(len(self.pipelines), p=self.prob)), int(rng.integers(2**32)))

    def apply(self, record: Record, params: Choice) -> Record:
        """Runs the list that `params` says."""
        return self.pipelines[params.index](record, np.random.default_rng(params.seed))

    def sizes(self, size: Size) -> tuple[Size, Size]:
        """The smallest and the largest sides over the lists."""
        return _widest([pipeline.sizes(size) for pipeline in self.pipelines])


def _widest(ranges: Sequence[tuple[Size, Size]]) -> tuple[Size, Size]:
    """What holds all of the ranges of sizes."""
    low = tuple(min(sides) for sides in zip(*(low for low, _ in ranges), strict=True))
    return low, tuple(max(sides) for sides in zip(*(high for _, high in ranges), strict=True))
