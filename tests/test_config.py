"""Recipes: found, overridden, checked, kept with a run."""

import json
import sys

import pytest
from ml_collections import ConfigDict

import runs
from jaxseg import config as run_config
from jaxseg.configs import common
from jaxseg.errors import ConfigError


@pytest.fixture
def recipe():
    return run_config.load_recipe(str(runs.TINY))


def changed(recipe, name, text):
    """The value at a place of a recipe after an override, and that nothing else changed."""
    new = run_config.override(recipe, [(name, text)])
    assert new.is_locked
    value, old = new, recipe
    for part in run_config._parts(name):
        value, old = value[part], old[part]
    before, after = (json.loads(run_config.to_json(c)) for c in (recipe, new))
    top = name.split(".")[0].split("[")[0]
    assert {k: v for k, v in before.items() if k != top} == {k: v for k, v in after.items() if k != top}
    return value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("total_steps", "40_000", 40_000),
        ("optimizer.lr", "1e-3", 0.001),
        ("optimizer.lr", "2", 2.0),
        ("optimizer.nesterov", "true", True),
        ("optimizer.nesterov", "0", False),
        ("optimizer.nesterov", None, True),
        ("name", "my run", "my run"),
        ("name", "12", "12"),
        ("model.backbone.strides", "(1, 2, 1, 1)", (1, 2, 1, 1)),
        ("model.backbone.strides", "[1, 2, 1, 1]", (1, 2, 1, 1)),
        ("model.backbone.strides", "1,2,1,1", (1, 2, 1, 1)),
        ("data.classes", "background, my road,car", ("background", "my road", "car")),
        ("data.classes", "('a b', 'c')", ("a b", "c")),
        ("data.label_map", "{255: 1}", {255: 1}),
        ("data.reduce_zero_label", "True", True),
        ("data.image_dir", "rgb/{split}", "rgb/{split}"),
        ("model.dtype", "bfloat16", "bfloat16"),
        ("model.auxiliary_head", "None", None),
        ("model.decode_head.sampler", "{'type': 'OHEMPixelSampler'}", {"type": "OHEMPixelSampler"}),
        ("model.test_cfg", "{'mode': 'slide', 'crop_size': (4, 4)}", {"mode": "slide", "crop_size": (4, 4)}),
        ("schedule[1].power", "0.5", 0.5),
        ("data.train.transforms[1].crop_size", "16,24", (16, 24)),
        ("init_from", "runs/first", "runs/first"),
    ],
)
def test_override(recipe, name, text, value):
    found = changed(recipe, name, text)
    if isinstance(found, ConfigDict):
        found = found.to_dict()
    assert found == value
    assert type(found) is type(value)


def test_override_from_a_file_of_lines(recipe, tmp_path):
    (tmp_path / "classes.txt").write_text("background\n\nmy road \ncar\n")
    assert changed(recipe, "data.classes", str(tmp_path / "classes.txt")) == ("background", "my road", "car")


def test_override_leaves_shared_parts_alone(recipe):
    """The validation and test parts of recipes often are one object."""
    recipe = run_config.load_recipe("cgnet.py:cgnet_camvid")
    new = run_config.override(recipe, [("data.val.transforms[0].type", "LoadImageFromFile")])
    assert new.data.val.transforms[0]["type"] == "LoadImageFromFile"
    assert new.data.test.transforms[0]["type"] == recipe.data.val.transforms[0]["type"] == "LoadImage"


def test_later_overrides_win(recipe):
    new = run_config.override(recipe, [("seed", "1"), ("seed", "2"), ("optimizer.lr", "3")])
    assert (new.seed, new.optimizer.lr, recipe.seed) == (2, 3.0, 0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("modle", "config has no field 'modle'. Did you mean model?"),
        ("modle.x.y", "config has no field 'modle'. Did you mean model?"),
        ("model.decode_head.chanels", "config.model.decode_head has no field 'chanels'. Did you mean channels"),
        ("name.x", "config.name is 'tiny' and has no fields of its own, so --config.name.x means nothing."),
        ("schedule.power", "config.schedule has 2 items; name one as in --config.schedule[0], not 'power'."),
        ("schedule[2].power", "config.schedule has 2 items; name one as in --config.schedule[0], not 2."),
        ("seed", ""),
        ("schedule[1].power", ""),
    ],
)
def test_explain_unknown_field(recipe, name, says):
    found = run_config.explain_unknown_field(recipe, name)
    assert found.startswith(says)
    assert bool(found) == bool(says)


def test_every_default_is_visible():
    assert set(common.base()) == set(run_config.load_recipe("demo.py"))
    run_config.check(run_config.load_recipe("demo.py"))


def test_whole_numbers_in_fields_of_floats():
    """What is 0 in a recipe can be made 0.5."""
    head = {"type": "FCNHead", "in_channels": 1, "channels": 1, "num_classes": 2, "dropout_ratio": 0}
    transform = {"type": "RandomFlip", "prob": 1}
    config = common.base()
    config.model = common.encoder_decoder({"type": "ResNet", "depth": 18}, head)
    config.data.train.transforms = (transform,)
    config = run_config.complete(config).lock()
    assert changed(config, "model.decode_head.dropout_ratio", "0.5") == 0.5
    assert changed(config, "data.train.transforms[0].prob", "0.5") == 0.5
    assert head["dropout_ratio"] == 0
    assert transform == {"type": "RandomFlip", "prob": 1}


def test_every_shipped_recipe():
    names = run_config.recipe_names()
    assert len(names) > 20
    for name, where in names.items():
        config = run_config.load_recipe(where)
        run_config.check(config)
        assert config.is_locked
        assert config.name == name


def test_a_recipe_may_take_an_argument_or_none(tmp_path):
    for signature in ("", "arg=None", "arg"):
        path = tmp_path / "recipe.py"
        path.write_text(
            f"from jaxseg.configs import demo\n\ndef get_config({signature}):\n"
            "    assert 'arg' not in locals() or arg is None\n    return demo.get_config()\n"
        )
        assert run_config.load_recipe(str(path)).name == "demo"


def test_json_round_trip(recipe, tmp_path):
    recipe = run_config.override(recipe, [("data.label_map", "{255: 1, 7: 0}"), ("optimizer.lr", "1e-7")])
    run_config.save(recipe, tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "config.json"]
    loaded = run_config.load(tmp_path)
    assert loaded.is_locked
    assert loaded.optimizer.lr == 1e-7
    assert loaded.model.backbone.strides == (1, 2, 2, 2)
    assert run_config.to_json(loaded) == run_config.to_json(recipe)
    run_config.check_same_run(recipe, tmp_path)
    run_config.check(loaded)


def test_classes_are_written_by_name(recipe, tmp_path):
    """A class that a recipe gives itself, also one of the recipe's own file."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\n"  # with it, dataclasses look their module up
        "from jaxseg.configs import demo\nfrom jaxseg.models.heads.fcn import FCNHead\n"
        "class MyHead(FCNHead):\n    more: int = 7\n"
        "def get_config():\n    config = demo.get_config()\n    config.model.decode_head = {'type': MyHead}\n"
        "    config.model.auxiliary_head = {'type': FCNHead}\n    return config\n"
    )
    config = run_config.load_recipe(str(path))
    assert config.model.decode_head.more == 7  # defaults are filled in
    model = json.loads(run_config.to_json(config))["model"]
    assert model["decode_head"]["type"] == "mine.MyHead"
    assert model["auxiliary_head"]["type"] == "jaxseg.models.heads.fcn.FCNHead"
    run_config.save(config, tmp_path)
    run_config.check_same_run(config, tmp_path)
    assert "mine" not in sys.modules


def test_what_json_cannot_hold(recipe):
    class Inner:
        pass

    for value, says in ((Inner, "Inner, a `type` in the config, must be at the top"), (len, "can't hold <built-in")):
        config = recipe.copy_and_resolve_references()
        with config.unlocked():
            config.model.decode_head = {"type": value}
        with pytest.raises(ConfigError, match=says):
            run_config.to_json(config)


def test_check_same_run(recipe, tmp_path):
    run_config.check_same_run(recipe, tmp_path)  # nothing there yet
    run_config.save(recipe, tmp_path)
    harmless = [("log_every", "7"), ("checkpoint_every", "3"), ("checkpoint.keep", "5"), ("data.num_workers", "2")]
    run_config.check_same_run(run_config.override(recipe, harmless), tmp_path)
    for name in ("evaluate_every", "seed", "batch_size", "total_steps", "optimizer.lr", "schedule[1].power"):
        with pytest.raises(ConfigError, match=f"of another config:\n  {name.split('[')[0]}: .* there, .* here"):
            run_config.check_same_run(run_config.override(recipe, [(name, "9")]), tmp_path)
    many = [(f"model.backbone.{name}", "3") for name in ("depth", "stem_channels", "base_channels", "frozen_stages")]
    many += [(f"model.{head}.{name}", "9") for head in ("decode_head", "auxiliary_head") for name in ("channels",)]
    many += [(name, "77") for name in ("seed", "batch_size", "total_steps", "evaluate_every", "eval_batch_size")]
    with pytest.raises(ConfigError, match="and 1 more"):
        run_config.check_same_run(run_config.override(recipe, many), tmp_path)


def test_check_metric():
    for metric in ("mIoU", "aAcc", "IoU/road", "Acc/car"):
        run_config.check_metric(metric, ("road", "car"))
    with pytest.raises(ConfigError, match="Did you mean IoU/road"):
        run_config.check_metric("IoU/raod", ("road", "car"))
