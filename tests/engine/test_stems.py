"""Kernels of RGB images for other channels, and what of a recipe follows from its data."""

import json

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg import config as run_config
from jaxseg.configs import common, folder
from jaxseg.data import build_source, write_demo
from jaxseg.data.datasets import DATASETS
from jaxseg.engine.follow import follow_data
from jaxseg.engine.stems import weights_for, widen
from jaxseg.errors import ConfigError
from jaxseg.models import build_model
from jaxseg.models.names import variable_shapes
from jaxseg.train import prepare_data

CLASSES = DATASETS["Demo"].classes


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 7])
def test_kernels_are_repeated_and_scaled(channels):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    wide = widen(kernel, channels)
    assert wide.shape == (3, 3, channels, 8)
    assert wide.dtype == np.float32
    for channel in range(channels if channels > 1 else 0):
        np.testing.assert_allclose(wide[..., channel, :], kernel[..., channel % 3, :] * 3 / channels, rtol=1e-6)
    if channels % 3 in (0, 1) and channels in (1, 6):
        np.testing.assert_allclose(wide.sum(2), kernel.sum(2), rtol=1e-5, atol=1e-6)


BACKBONES = {
    "resnet": common.resnet(18, stride=32, stem_channels=8, base_channels=8),
    "mit": {"type": "MixVisionTransformer", "embed_dims": 8, "num_heads": (1, 1, 1, 1), "num_layers": (1, 1, 1, 1)},
    "swin": {"type": "SwinTransformer", "embed_dims": 8, "num_heads": (1, 1, 1, 1), "depths": (1, 1, 1, 1)},
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_stem_alone_is_widened(kind, tmp_path, monkeypatch):
    config = common.base()
    channels = {"resnet": 64, "mit": 8, "swin": 64}[kind]
    config.model = common.encoder_decoder(dict(BACKBONES[kind]), common.head("FCNHead", channels, 8, 4, num_convs=1))
    rgb = {p: np.ones(s.shape, np.float32) for p, s in variable_shapes(build_model(config.model)).items()}
    with config.unlocked():
        config.model.backbone["in_channels"] = 7
    model = build_model(config.model)
    monkeypatch.setattr("jaxseg.engine.stems.starting_weights", lambda what, model: unflatten_dict(rgb))
    said = []
    found = flatten_dict(weights_for("there", config, model, said.append))
    shapes = variable_shapes(model)
    assert {path: array.shape for path, array in found.items()} == {path: s.shape for path, s in shapes.items()}
    changed = [path for path in found if found[path].shape != rgb[path].shape]
    assert len(changed) == 1
    assert changed[0][:2] == ("params", "backbone")
    np.testing.assert_allclose(found[changed[0]], 3 / 7, rtol=1e-6)
    assert "times 3/7" in said[0]


@pytest.fixture
def recipe(tmp_path):
    """The folder recipe on a folder of the demo's pictures, with overrides."""
    root = write_demo(tmp_path / "set", train=4, val=2, size=(40, 48))

    def make(*fields):
        config = run_config.load_chosen("configs/folder.py", fields)
        text = ",".join(CLASSES)
        return run_config.override(config, [("data.root", str(root)), ("data.classes", text), *fields])

    return make


def follow(config, workdir=None):
    said = []
    return follow_data(config, build_source(config.data, "train"), workdir, said.append), said


def test_weights_of_classes_and_where_they_are_kept(recipe, tmp_path):
    field = "model.decode_head.loss_decode.class_weight"
    config, said = follow(recipe((field, "auto")))
    weights = config.model.decode_head.loss_decode.class_weight
    assert len(weights) == 6
    assert weights[0] < min(weights[1:])
    assert config.model.auxiliary_head.loss_decode.class_weight is None
    assert said[0].startswith(f"class weights of the training masks: background {weights[0]:g}, disk ")
    run_config.save(config, tmp_path)
    there = json.loads((tmp_path / "config.json").read_text())
    there["model"]["decode_head"]["loss_decode"]["class_weight"][0] = 0.125
    (tmp_path / "config.json").write_text(json.dumps(there))
    again, _ = follow(recipe((field, "auto")), tmp_path)
    assert again.model.decode_head.loss_decode.class_weight == (0.125, *weights[1:])
    with pytest.raises(ConfigError, match="class_weight is 'atuo'"):
        follow(recipe((field, "atuo")))


def test_mean_of_the_data_also_where_transforms_pad(recipe, tmp_path):
    config, said = follow(recipe(("preprocess.mean", "auto"), ("preprocess.std", "auto")))
    assert config.preprocess.mean != common.IMAGENET["mean"]
    assert [t["pad_val"] for t in config.data.train.transforms if t["type"] == "Pad"] == [config.preprocess.mean]
    assert said[0].startswith("images: mean ")
    run_config.save(config, tmp_path)
    there = json.loads((tmp_path / "config.json").read_text())
    there["preprocess"]["mean"] = [1.0, 2.0, 3.0]
    (tmp_path / "config.json").write_text(json.dumps(there))
    again, _ = follow(recipe(("preprocess.mean", "auto"), ("preprocess.std", "auto")), tmp_path)
    assert again.preprocess.mean == (1.0, 2.0, 3.0)
    untouched, said = follow(recipe())
    assert untouched.preprocess.mean == common.IMAGENET["mean"]
    assert said == []
    given, _ = follow(recipe(("preprocess.mean", "auto"), ("preprocess.std", "(2, 2, 2)")))
    assert given.preprocess.std == (2, 2, 2)


def test_channels_that_contradict_one_another(recipe):
    with pytest.raises(ConfigError, match=r"backbone.in_channels is 5, but data.channels is 3"):
        follow(recipe(("data.channels", "3"), ("model.backbone.in_channels", "5")))
    with pytest.raises(ConfigError, match=r"preprocess.mean has 1 numbers, but data.channels is 3"):
        follow(recipe(("data.channels", "3"), ("preprocess.mean", "(1,)"), ("preprocess.std", "(1,)")))
    config, _ = follow(recipe(("data.channels", "3")))
    assert any(t["type"] == "PhotoMetricDistortion" for t in config.data.train.transforms)


def test_losses_of_several_classes_a_pixel(recipe):
    config = recipe(("data.masks", "multi-label"))
    followed, said = follow(config)
    assert followed.model.decode_head.loss_decode.use_sigmoid
    assert followed.model.auxiliary_head.loss_decode.use_sigmoid
    assert "losses: a sigmoid for every class" in said
    with config.unlocked():
        config.model.decode_head.loss_decode = {"type": "LovaszLoss"}
    with pytest.raises(ConfigError, match=r"decode_head.loss_decode is LovaszLoss.* CrossEntropyLoss, DiceLoss, Focal"):
        follow(config)


@pytest.mark.parametrize("name", ["fcn_r18", "segformer_b0", "mask2former_r50", "unet", "upernet_swin_t"])
def test_models_of_the_folder_recipe_fit_the_data(recipe, name):
    config = recipe(("model_name", name))
    assert config.model_name == name
    run_config.check(config)
    config, _, _ = prepare_data(config)
    model = build_model(config.model)
    assert {head.num_classes for head in model.heads().values()} == {6}
    if name == "mask2former_r50":
        assert config.model.decode_head.loss_cls.class_weight == (1.0,) * 6 + (0.1,)


def test_names_of_models(recipe):
    assert {"fcn_r18", "upernet_r18", "pspnet_r50", "deeplabv3plus_r50", "segformer_b0", "upernet_swin_t"} <= set(
        folder.MODELS
    )
    assert recipe().model_name == "upernet_r18"
    with pytest.raises(ConfigError, match=r"model_name is 'segfomer_b0'.* Did you mean segformer_b0"):
        recipe(("model_name", "segfomer_b0"))
    with pytest.raises(ConfigError, match=r"demo.py has no choice of models"):
        run_config.load_chosen("configs/demo.py", [("model_name", "unet")])
