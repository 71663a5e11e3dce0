"""A printed config is complete, and is itself a config."""

import json

import pytest

from dialects import NEW, OLD
from jaxseg import config as run_config
from jaxseg.mmseg import load_config
from runs import call

PSPNET = "configs/pspnet.py:pspnet_r50-d8_4xb2-40k_cityscapes-512x1024"


@pytest.mark.parametrize("name", ["configs/demo.py", PSPNET])
def test_printed_recipe_loads_again_and_is_equal(tmp_path, name):
    status, out, err = call("print_config", f"--config={name}", "--config.total_steps=123")
    assert (status, err) == (0, "")
    path = tmp_path / "recipe.json"
    path.write_text(out)
    loaded = run_config.load_recipe(str(path))
    assert loaded.is_locked
    assert loaded.total_steps == 123
    assert run_config.to_json(loaded) == out.strip()
    whole = run_config.override(run_config.load_recipe(name), [("total_steps", "123")])
    assert loaded.to_dict() == whole.to_dict()
    assert call("print_config", f"--config={path}").out == out
    # Also what is null in it knows its type.
    assert call("print_config", f"--config={path}", "--config.data.ignore_index=x").status == 2


@pytest.mark.parametrize("text", [NEW, OLD], ids=["new", "old"])
def test_translated_config_loads_again_and_is_equal(tmp_path, text):
    config, path = tmp_path / "net_4xb2.py", tmp_path / "recipe.json"
    config.write_text(text)
    status, out, err = call("print_config", f"--mmseg={config}", "--cfg-options", "log_level=DEBUG")
    assert status == 0
    assert "ignored: log_level: " in err
    path.write_text(out)
    loaded = run_config.load_recipe(str(path))
    assert loaded.to_dict() == load_config(config).to_dict()
    assert call("print_config", f"--config={path}").out == out


def test_options_change_the_config_before_it_is_translated(tmp_path):
    config = tmp_path / "net.py"
    config.write_text(NEW)
    options = ("train_cfg.max_iters=70", "model.decode_head.channels=24")
    recipe = json.loads(call("print_config", f"--mmseg={config}", "--cfg-options", *options).out)
    assert (recipe["total_steps"], recipe["model"]["decode_head"]["channels"]) == (70, 24)


def test_errors_name_file_and_field(tmp_path):
    config = tmp_path / "net.py"
    config.write_text(NEW)
    status, out, err = call("print_config", f"--mmseg={config}", "--cfg-options", "train_cfg.max_iter=70")
    assert (status, out) == (2, "")
    assert "net.py: train_cfg.max_iter=70 has no counterpart here. Did you mean max_iters" in err
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    status, _, err = call("print_config", f"--config={broken}")
    assert status == 2
    assert "broken.json is not valid JSON" in err
