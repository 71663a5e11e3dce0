"""From MMSegmentation's config and checkpoint to a model that is used, evaluated and trained from; and back."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import folder
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import jaxseg
import runs
from jaxseg.config import load_recipe
from jaxseg.errors import CheckpointError, ConfigError
from jaxseg.mmseg import load_checkpoint, load_config, zoo
from jaxseg.mmseg.convert import to_state_dict
from jaxseg.models import build_model
from jaxseg.models.names import variable_shapes
from pytorch_files import write_pth
from small_models import random_variables

PALETTE = tuple((40 * i, 255 - 40 * i, i) for i in range(6))
CONFIG = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
crop_size = (32, 48)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[120., 110., 100.], std=[60., 60., 60.], bgr_to_rgb=True,
                           pad_val=0, seg_pad_val=255, size=crop_size),
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(type='ResNetV1c', depth=18, stem_channels=8, base_channels=8, norm_cfg=norm_cfg),
    decode_head=dict(type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, num_classes=6,
                     norm_cfg=norm_cfg, loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)),
    auxiliary_head=[dict(type='FCNHead', in_channels=32, in_index=2, channels=8, num_convs=1, concat_input=False,
                         num_classes=6, norm_cfg=norm_cfg)],
    train_cfg=dict(), test_cfg=dict(mode='whole'))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75), dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
meta = dict(classes=('background', 'disk', 'box', 'triangle', 'ring', 'cross'))
train_dataloader = dict(
    batch_size=4, num_workers=1, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='BaseSegDataset', data_root='DATA', img_suffix='.png', metainfo=meta, pipeline=train_pipeline,
                 data_prefix=dict(img_path='images/train', seg_map_path='annotations/train')))
val_dataloader = dict(
    batch_size=1, dataset=dict(type='BaseSegDataset', data_root='DATA', img_suffix='.png', metainfo=meta,
    data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=6, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=3)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3))
"""
REAL_DATA = Path(os.environ.get("JAXSEG_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
WEIGHTS = REAL_DATA.parent / "weights"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A config and a checkpoint of MMSegmentation's, and the data set that they are for."""
    place = tmp_path_factory.mktemp("mmseg")
    data = folder.write_folder(place / "data")
    config = place / "small_1xb4-6_folder-32x48.py"
    config.write_text(CONFIG.replace("DATA", str(data)))
    model = build_model(load_config(config).model)
    variables = random_variables(model, np.zeros((1, 64, 64, 3), np.float32))
    tensors = {
        name: array if array.ndim else np.asarray(i, np.int64)
        for i, (name, array) in enumerate(to_state_dict(model, variables).items())
    }
    meta = {"iter": 6, "dataset_meta": {"classes": folder.CLASSES, "palette": PALETTE}}
    write_pth(place / "iter_6.pth", tensors, meta)
    return place


@pytest.fixture(scope="module")
def converted(files):
    """The folder that the verb makes of them; not to be written to."""
    words = (f"--config={next(files.glob('*.py'))}", f"--checkpoint={files / 'iter_6.pth'}", f"--out={files / 'out'}")
    ended = runs.call("convert", *words)
    assert ended.status == 0, ended.err
    assert "fill auxiliary_head_0, backbone, decode_head; 6 classes" in ended.out
    assert "counters of norm layers" in ended.out
    return files / "out"


def refused(*words) -> str:
    ended = runs.call("convert", *words)
    assert ended.status == 2, ended.out
    assert "Traceback" not in ended.err
    return ended.err


def test_the_summary_tells_of_every_tensor_and_field(files, converted):
    told = json.loads((converted / "conversion.json").read_text())
    tensors = load_checkpoint(files / "iter_6.pth")
    assert told["tensors"].keys() | told["counters"].keys() == tensors.keys()
    model = build_model(load_config(next(files.glob("*.py"))).model)
    assert sorted(told["tensors"].values()) == sorted("/".join(path) for path in variable_shapes(model))
    assert told["tensors"]["backbone.layer1.0.conv1.weight"] == "params/backbone/layer1_0/conv1/kernel"
    assert told["ignored_fields"]["model.pretrained"]
    assert (told["source"], told["step"], told["left_as_initialised"]) == ("mmseg", 6, [])


def test_it_is_used(files, converted, tmp_path):
    segmenter = jaxseg.load(converted)
    assert segmenter.step == 6
    assert segmenter.classes == folder.CLASSES  # the checkpoint's own
    assert segmenter.palette == PALETTE
    image = next((files / "data" / "images" / "val").iterdir())
    result = segmenter.predict(image)
    # Without a folder between them it is the same model.
    other = jaxseg.load((next(files.glob("*.py")), files / "iter_6.pth"))
    np.testing.assert_array_equal(other.predict(image).logits, result.logits)
    assert (other.classes, other.palette, other.step) == (segmenter.classes, segmenter.palette, 6)

    ended = runs.call("predict", f"--workdir={converted}", f"--out={tmp_path}", image)
    assert ended.status == 0, ended.err
    assert len(list(tmp_path.iterdir())) == 2
    ended = runs.call("evaluate", f"--workdir={converted}", f"--out={tmp_path / 'report'}")
    assert ended.status == 0, ended.err
    assert "FolderDataset val, 5 images, step 6" in ended.out


def test_it_is_trained_from_but_not_continued(files, converted, tmp_path):
    words = (f"--config={converted / 'config.json'}", "--config.total_steps=1", "--config.batch_size=2")
    ended = runs.call("train", *words, f"--config.init_from={converted}", f"--workdir={tmp_path / 'run'}")
    assert ended.status == 0, ended.err
    first = runs.records(tmp_path / "run")[0]["loss"]
    again = runs.call(
        "train", *words, f"--config.init_from={files / 'iter_6.pth'}", f"--workdir={tmp_path / 'from_file'}"
    )
    assert again.status == 0, again.err
    assert runs.records(tmp_path / "from_file")[0]["loss"] == first

    before = {path: path.read_bytes() for path in converted.iterdir()}
    ended = runs.call("train", f"--config={converted / 'config.json'}", f"--workdir={converted}")
    assert ended.status == 2
    assert "holds converted weights" in ended.err
    assert "--config.init_from=" in ended.err
    assert {path: path.read_bytes() for path in converted.iterdir()} == before


def test_there_and_back_is_bit_identical(files, converted, tmp_path):
    out = tmp_path / "back.safetensors"
    ended = runs.call("convert", "--to=mmseg", f"--workdir={converted}", f"--out={out}")
    assert ended.status == 0, ended.err
    there, back = load_checkpoint(files / "iter_6.pth"), load_checkpoint(out)
    assert there.keys() == back.keys()
    for name, array in there.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape), name
        assert back[name].tobytes() == array.tobytes(), name
    assert "is there already" in refused("--to=mmseg", f"--workdir={converted}", f"--out={out}")


def test_a_run_of_our_own_goes_back(finished_run, tmp_path):
    out = tmp_path / "new" / "tiny.safetensors"
    ended = runs.call("convert", "--to=mmseg", f"--workdir={finished_run}", f"--out={out}")
    assert ended.status == 0, ended.err
    segmenter = jaxseg.load(finished_run)
    names = load_checkpoint(out)
    assert names["backbone.layer1.0.bn1.num_batches_tracked"] == segmenter.step
    forth = jaxseg.mmseg.convert(segmenter.model, names)
    for ours, theirs in zip(jax.tree.leaves(dict(segmenter.variables)), jax.tree.leaves(forth), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_other_classes(files, tmp_path):
    words = [f"--config={next(files.glob('*.py'))}", f"--checkpoint={files / 'iter_6.pth'}", f"--out={tmp_path / 'a'}"]
    fields = ["model.decode_head.num_classes=4", "model.auxiliary_head.0.num_classes=4"]
    said = refused(*words, "--cfg-options", *fields)
    assert "iter_6.pth: The checkpoint does not fit the model" in said
    assert "does not fit params/decode_head/conv_seg/kernel" in said
    assert "--new_classes" in said
    assert not (tmp_path / "a").exists()
    ended = runs.call("convert", *words, "--new_classes", "--cfg-options", *fields)
    assert ended.status == 0, ended.err
    assert "left as initialised: params/auxiliary_head_0/conv_seg/bias" in ended.out
    variables = jaxseg.load(tmp_path / "a").variables["params"]["decode_head"]["conv_seg"]
    assert variables["kernel"].shape == (1, 1, 8, 4)
    assert 0 < np.abs(variables["kernel"]).max() < 0.1
    assert not variables["bias"].any()


def test_a_backbone_of_another_library(files, tmp_path):
    """Such as torchvision's; what it lacks starts anew when it is trained from."""
    tensors = load_checkpoint(files / "iter_6.pth")
    bare = {name.removeprefix("backbone."): array for name, array in tensors.items() if name.startswith("backbone.")}
    bare |= {"fc.weight": np.zeros((10, 64), np.float32), "fc.bias": np.zeros(10, np.float32)}
    path = write_pth(tmp_path / "resnet18.pth", bare, {})
    words = (f"--config={next(files.glob('*.py'))}", f"--checkpoint={path}")
    ended = runs.call("convert", *words, "--source=torchvision", f"--out={tmp_path / 'out'}")
    assert ended.status == 0, ended.err
    assert "of the format torchvision fill backbone; 6 classes" in ended.out
    with pytest.raises(CheckpointError, match="holds weights of backbone alone, without auxiliary_head_0, decode_head"):
        jaxseg.load(tmp_path / "out")
    ended = runs.call(
        "train", f"--config={tmp_path / 'out' / 'config.json'}", f"--config.init_from={tmp_path / 'out'}",
        "--config.total_steps=1", "--config.batch_size=2", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert "has no auxiliary_head_0, decode_head: they start anew" in ended.out
    # With the other names of the same arrays, which are told from them.
    classifier = {"head.fc.weight": np.zeros((10, 64), np.float32)}
    with_head = {name: array for name, array in tensors.items() if name.startswith("backbone.")} | classifier
    path = write_pth(tmp_path / "mmpretrain.pth", with_head, {})
    ended = runs.call("convert", words[0], f"--checkpoint={path}", f"--out={tmp_path / 'other'}")
    assert "of the format mmpretrain fill backbone" in ended.out, ended.err
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("out", "other")]
    assert weights[0] == weights[1]


def test_a_config_in_the_checkpoint(files, tmp_path):
    """As the reference's training writes it."""
    tensors = load_checkpoint(files / "iter_6.pth")
    text = next(files.glob("*.py")).read_text()
    path = write_pth(tmp_path / "best.pth", tensors, {"cfg": text, "iter": 9})
    ended = runs.call("convert", f"--checkpoint={path}", f"--out={tmp_path / 'out'}")
    assert ended.status == 0, ended.err
    assert jaxseg.load(tmp_path / "out").classes == folder.CLASSES  # the config's
    path = write_pth(tmp_path / "evil.pth", tensors, {"cfg": "import os\nmodel = os.system('touch here')"})
    said = refused(f"--checkpoint={path}", f"--out={tmp_path / 'evil'}")
    assert "evil.pth (the config in it):2: `os.system` is not allowed" in said
    assert "holds no config" in refused(f"--checkpoint={files / 'iter_6.pth'}", f"--out={tmp_path / 'none'}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out=out"], "--checkpoint is needed"),
        (["--checkpoint=nothing.pth", "--config=cgnet.py:cgnet_camvid", "--out=out"], "nothing.pth: there is no such"),
        (["--checkpoint=nothing.pth", "--out=out"], "published no checkpoint of this name"),
        (["--checkpoint=hrnet.pth", "--config=nowhere.py", "--out=out"], "--config=nowhere.py: no such file"),
        (["--to=mmseg", "--out=out.safetensors"], "--to=mmseg needs --workdir"),
        (["--to=mmseg", "--workdir=nowhere", "--out=out.pth"], "must end in .safetensors"),
        (["--to=mmseg", "--workdir=nowhere", "--out=out.safetensors"], "nowhere is not a run folder"),
        (["--checkpoint=x.pth", "--config=cgnet.py:cgnet_camvid", "--cfg-options", "a=1", "--out=o"], "--cfg-options"),
    ],
)
def test_what_is_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*words)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(converted, files):
    said = refused(f"--config={next(files.glob('*.py'))}", f"--checkpoint={files / 'iter_6.pth'}", f"--out={converted}")
    assert "is there already" in said


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.json"])
def test_damaged_weights_are_named(converted, tmp_path, file):
    copy = shutil.copytree(converted, tmp_path / "copy")
    content = bytearray((copy / file).read_bytes())
    content[-5] ^= 1
    (copy / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=file if file.endswith("json") else "damaged: the checksum of"):
        jaxseg.load(copy)
    (copy / file).unlink()
    with pytest.raises((CheckpointError, ConfigError), match=r"no checkpoint|can't be read"):
        jaxseg.load(copy)


def test_a_published_model_by_its_name(files, tmp_path, monkeypatch):
    """Downloaded once, here from a folder that stands for the server."""
    name = "cgnet_fcn_4xb4-60k_cityscapes-680x680"
    config = load_recipe(f"cgnet.py:{name}")
    model = build_model(config.model)
    tensors = to_state_dict(model, random_variables(model, np.zeros((1, 64, 64, 3), np.float32)))
    path = write_pth(tmp_path / "mirror.pth", tensors, {"iter": 60000})
    entry = zoo.find(name)
    monkeypatch.setattr(zoo.ZooEntry, "sha256_prefix", property(lambda self: digest(path)))
    (tmp_path / "mirror").mkdir()
    path.rename(tmp_path / "mirror" / entry.file_name)
    path = tmp_path / "mirror" / entry.file_name
    monkeypatch.setenv("JAXSEG_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("JAXSEG_CACHE", str(tmp_path / "cache"))
    segmenter = jaxseg.load(name)
    assert segmenter.config.name == name
    assert segmenter.classes[:2] == ("road", "sidewalk")
    kernel = segmenter.variables["params"]["decode_head"]["conv_seg"]["kernel"]
    np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), tensors["decode_head.conv_seg.weight"])
    assert (tmp_path / "cache" / entry.file_name).is_file()
    ended = runs.call("convert", f"--checkpoint={name}", f"--out={tmp_path / 'out'}")
    assert ended.status == 0, ended.err
    assert jaxseg.load(tmp_path / "out").step == 60000
    assert name in jaxseg.list_models("cgnet*", published=True)
    assert "cgnet_camvid" not in jaxseg.list_models("cgnet*", published=True)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def test_what_cannot_be_loaded():
    with pytest.raises(ConfigError, match=r"no folder, no file, and no published model. Did you mean pspnet_r50-d8"):
        jaxseg.load("pspnet_r50-d8_4xb2-40k_cityscapes-512x1023")
    with pytest.raises(ConfigError, match="the method is not part of this version"):
        jaxseg.load("vpd_sd_4xb8-25k_nyu-480x480")


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="there are no published weights here")
def test_both_files_of_the_published_cgnet_are_one_model(tmp_path):
    """The authors' own, with their names, and the same under MMSegmentation's."""
    for file, source in (("cgnet_camvid_mmseg_format", "mmseg"), ("cgnet_camvid_trainval_epoch800", "authors")):
        words = ("--config=cgnet.py:cgnet_camvid", f"--checkpoint={WEIGHTS / file}.pth", f"--source={source}")
        ended = runs.call("convert", *words, f"--out={tmp_path / source}")
        assert ended.status == 0, ended.err
        assert f"of the format {source} fill backbone, decode_head; 11 classes" in ended.out
    ours, theirs = (flatten_dict(jaxseg.load(tmp_path / source).variables) for source in ("mmseg", "authors"))
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_array_equal(array, theirs[path])
    assert jaxseg.load(tmp_path / "mmseg").classes[6] == "SignSymbol"  # as the file spells it
