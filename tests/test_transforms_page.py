"""docs/transforms.md says what its tool makes of the transforms, and its Python works as it is written."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxseg.data import TRANSFORMS, build_transforms
from jaxseg.data.demo import DemoSource

ROOT = Path(__file__).parent.parent
TOOL = runpy.run_path(str(ROOT / "tools" / "make_transforms_page.py"))
TEXT = TOOL["PAGE"].read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_page_is_up_to_date():
    assert TOOL["page"](TEXT) == TEXT, "run tools/make_transforms_page.py"


def test_every_transform_and_every_field_is_on_the_page_and_says_what_it_is():
    for name, kind in TRANSFORMS.items():
        assert f"`{name}`" in TEXT
        assert f"\n### {kind.__name__}\n" in TEXT
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", TEXT, re.MULTILINE)
    assert len(rows) > 90
    assert all(len(meaning) > 5 for _, meaning in rows)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.startswith("config.")])
def test_the_recipes_on_the_page_make_pictures_of_one_size(block):
    config = ConfigDict({"data": {"train": {"transforms": ()}}})
    exec(block, {"config": config})
    source = DemoSource("train", 5, (60, 80), 0)
    pipeline = build_transforms(config.data.train.transforms).bind(source)
    for index in range(3):
        record = pipeline(source[index], np.random.default_rng(index))
        assert record["image"].shape == (512, 512, 3)
        assert record["label"].shape == (512, 512)


def test_ones_own_transform_works_as_it_is_written():
    (block,) = (block for block in BLOCKS if "class " in block)
    names = {"__name__": "mine"}
    try:
        exec(block, names)
    finally:
        TRANSFORMS.pop("RandomInvert", None)
    assert set(np.unique(names["record"]["image"])) <= {0, 255}
    assert names["pipeline"].random
