"""docs/model_zoo.md says what its tool makes of the recipes, the published scores and the golden files."""

import runpy
from pathlib import Path

TOOL = runpy.run_path(str(Path(__file__).parent.parent / "tools" / "make_model_zoo.py"))
TEXT = TOOL["PAGE"].read_text()


def test_the_page_is_up_to_date():
    """But for the sizes, which take long to count: they are taken from the page itself."""
    assert TOOL["page"](TOOL["costs_on"](TEXT)) == TEXT, "run tools/make_model_zoo.py"


def test_every_recipe_has_sizes():
    assert set(TOOL["costs_on"](TEXT)) == {name for names in TOOL["methods"]().values() for name in names}


def test_sizes_of_one_recipe():
    name = "cgnet_fcn_4xb4-60k_cityscapes-680x680"
    assert TOOL["costs_on"](TEXT)[name] == TOOL["count"](name, {})
