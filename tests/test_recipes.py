"""The reference's recipes: ours of the same names say the same, and their models can be built."""

import json
import runpy
from pathlib import Path

import pytest

import jaxseg
from jaxseg import config as run_config
from jaxseg.configs import common
from jaxseg.errors import ConfigError
from jaxseg.models import build_model

TOOL = runpy.run_path(str(Path(__file__).parent.parent / "tools" / "make_recipe_fixture.py"))
EXPECTED = {
    where: recipe
    for path in sorted(TOOL["FIXTURES"].glob("*.json"))
    for where, recipe in TOOL["decode"](json.loads(path.read_text())).items()
}
# Fields that came later than a fixture have their defaults in it.
DEFAULTS = dict(TOOL["leaves"](json.loads(run_config.to_json(common.base()))))
OURS = {"cgnet_camvid"}  # those that the reference does not have
# Fields that the reference does not have, at their defaults in all recipes whose parts have them.
OWN_FIELDS = {
    "mesh.data": -1,
    "mesh.fsdp": 1,
    "model.backbone.with_cp": False,
    "model.remat": False,
    "optimizer.freeze": [],
    **{f"schedule[{i}].by_epoch": False for i in range(5)},
}


def with_defaults(fields):
    """All fields that the base has, unless they have fields of their own."""
    nodes = {name[:place] for name in fields for place, character in enumerate(name) if character in ".["}
    return {name: value for name, value in DEFAULTS.items() if name != "name" and name not in nodes} | fields


@pytest.mark.parametrize("where", EXPECTED)
def test_recipe_says_what_the_reference_says(where):
    config = run_config.load_recipe(where)
    found, expected = dict(TOOL["leaves"](json.loads(run_config.to_json(config)))), with_defaults(EXPECTED[where])
    expected = {field: value for field, value in OWN_FIELDS.items() if field in found} | expected
    assert found.pop("name") == where.partition(":")[2]
    different = [
        f"{field}: {found.get(field, 'nothing')} here, {expected.get(field, 'nothing')} in the reference"
        for field in sorted(found.keys() | expected.keys())
        if json.dumps(found.get(field, "nothing")) != json.dumps(expected.get(field, "nothing"))
    ]
    assert not different, "\n".join([where, *different])
    run_config.check(config)
    build_model(config.model)


def test_every_recipe_of_the_reference_is_there_and_no_other():
    methods = {where.partition(".py")[0] for where in EXPECTED}
    ours = {where for name, where in run_config.recipe_names().items() if name not in OURS}
    assert {where for where in ours if where.partition(".py")[0] in methods} == set(EXPECTED)


def test_recipes_are_listed():
    names = {where.partition(":")[2] for where in EXPECTED if where.startswith("pspnet.py")}
    assert len(names) > 60
    assert names <= set(jaxseg.list_models("pspnet*"))


def test_the_fixture_is_read_as_it_is_written():
    recipes = {"a": {"x": 1, "y": True}, "b": {"x": 1.0, "y": False, "z": None}, "c": {"x": 1, "y": True, "z": [1]}}
    content = json.loads(json.dumps(TOOL["encode"](recipes)))
    assert json.dumps(TOOL["decode"](content), sort_keys=True) == json.dumps(recipes)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "fcn-d6_r101b-d16_4xb2-80k_cityscapes-769x769",
            common.RecipeName("fcn-d6", "r101b", 16, (), 4, 2, 80, "cityscapes", (769, 769)),
        ),
        (
            "pspnet_r50-d32_rsb_4xb2-adamw-80k_cityscapes-512x1024",
            common.RecipeName("pspnet", "r50", 32, ("rsb", "adamw"), 4, 2, 80, "cityscapes", (512, 1024)),
        ),
        (
            "upernet_r18_4xb4-40k_pascal-context-59-480x480",
            common.RecipeName("upernet", "r18", None, (), 4, 4, 40, "pascal-context-59", (480, 480)),
        ),
        (
            "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024_dark-zurich-1920x1080",
            common.RecipeName(
                "pspnet", "r50", 8, (), 4, 2, 40, "cityscapes", (512, 1024), "dark-zurich", (1920, 1080)
            ),
        ),
    ],
)  # fmt: skip
def test_parse_name(name, said):
    assert common.parse_name(name) == said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pspnet_r50-d8_4x2-40k_cityscapes-512x1024", "Names of recipes read METHOD_BACKBONE"),
        ("pspnet_r50-d8_4xb2-40k_cityscape-512x1024", "'cityscape' is not known. Did you mean cityscapes"),
        ("pspnet_r50-d8_4xb2-40k_cityscapes-512x1024_night-drive-9x9", "'night-drive' is not known. Did you mean"),
        ("pspnet_r50-d8_4xb2-map-40k_cityscapes-512x1024", "'map' means nothing here. Did you mean amp?"),
        ("pspnet_hr18-d8_4xb2-40k_cityscapes-512x1024", "'hr18' is not"),
    ],
)
def test_names_that_mean_nothing(name, says):
    with pytest.raises(ConfigError, match=says):
        common.recipes(name, lambda said: {"backbone": said.resnet()})[name]()
