"""What random transforms draw: how often, how far, from where."""

import numpy as np

from jaxseg.data import build_transforms
from jaxseg.data.transforms.color import RandomGrayscale
from jaxseg.data.transforms.compose import RandomApply, RandomChoice
from jaxseg.data.transforms.depth import RandomDepthMix
from jaxseg.data.transforms.erase import RandomCutOut
from jaxseg.data.transforms.rotate import RandomRotate, RandomRotFlip
from transform_figures import COUNT, about, assert_uniform, drawn


def test_angles_are_drawn_as_often_and_as_far_as_asked(record):
    angles = drawn(RandomRotate(0.3, (-10, 40)), record)
    turned = [angle for angle in angles if angle is not None]
    assert about(len(turned) / COUNT, 0.3)
    assert_uniform(turned, -10, 40)
    assert RandomRotate(0.3, 20).degree == (-20, 20)


def test_rotations_and_mirrors_exclude_each_other(record):
    params = drawn(RandomRotFlip(0.4, 0.5, 15), record)
    rotated = [p.degrees for p in params if p is not None and p.degrees is not None]
    flipped = [p for p in params if p is not None and p.degrees is None]
    assert about(len(rotated) / COUNT, 0.4)
    assert about(len(flipped) / COUNT, 0.6 * 0.5)
    assert_uniform(rotated, -15, 15)
    for quarters in range(4):
        for axis in range(2):
            found = sum((p.quarters, p.axis) == (quarters, axis) for p in flipped)
            assert about(found / len(flipped), 1 / 8, len(flipped))


def test_holes_are_anywhere_and_of_every_shape(record):
    cut = RandomCutOut(0.5, (1, 3), cutout_shape=((8, 4), (3, 9)))
    holes = drawn(cut, record)
    assert about(sum(bool(h) for h in holes) / COUNT, 0.5)
    some = [h for h in holes if h]
    assert all(about(sum(len(h) == n for h in some) / len(some), 1 / 3, len(some)) for n in (1, 2, 3))
    flat = [hole for h in some for hole in h]
    tops, lefts = {hole.top for hole in flat}, {hole.left for hole in flat}
    assert (min(tops), max(tops), min(lefts), max(lefts)) == (0, 59, 0, 79)
    inside = [hole for hole in flat if hole.top < 50 and hole.left < 70]
    assert {(hole.height, hole.width) for hole in inside} == {(4, 8), (9, 3)}
    assert about(sum(hole.width == 8 for hole in inside) / len(inside), 0.5, len(inside))
    assert all(hole.top + hole.height <= 60 and hole.left + hole.width <= 80 for hole in flat)


def test_strips_of_depth(record):
    strips = drawn(RandomDepthMix(0.25, 0.75), record)
    some = [strip for strip in strips if strip is not None]
    assert about(len(some) / COUNT, 0.25)
    assert all(left >= 0 and width >= 1 and left + width <= 80 for left, width in some)
    assert all(width <= max(1, 0.75 * (80 - left)) for left, width in some)
    assert_uniform([left for left, _ in some], 0, 79)


def test_greys(record):
    assert about(sum(drawn(RandomGrayscale(0.1), record)) / COUNT, 0.1)


ADD = {"type": "AdjustGamma", "gamma": 2.0}
CROP = {"type": "CenterCrop", "crop_size": (20, 30)}


def test_transforms_that_hold_others(record):
    apply = RandomApply((ADD, CROP), 0.3)
    seeds = drawn(apply, record)
    assert about(sum(seed is not None for seed in seeds) / COUNT, 0.3)
    assert apply.sizes((60, 80)) == ((20, 30), (60, 80))
    assert apply.apply(record, None) is record
    wanted = build_transforms((ADD, CROP))(record, np.random.default_rng(0))
    np.testing.assert_array_equal(apply.apply(record, 7)["image"], wanted["image"])
    choice = RandomChoice(((ADD, CROP), ADD, [{"type": "RandomFlip", "prob": 0.5}]), (0.2, 0.5, 0.3))
    choices = drawn(choice, record)
    assert all(about(sum(c.index == i for c in choices) / COUNT, p) for i, p in enumerate(choice.prob))
    results = {choice.apply(record, c)["image"].tobytes() for c in choices[:60]}
    assert len(results) == 4  # the flip in the third list is drawn, too
    assert choice.sizes((60, 80)) == ((20, 30), (60, 80))
