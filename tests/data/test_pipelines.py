"""The pipelines of whole recipes make what the reference makes of the same files with the same random choices."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxseg.data import build_transforms
from jaxseg.data.transforms import png
from jaxseg.data.transforms.windowed import LoadResizeCrop, read_windows
from jaxseg.mmseg.fields import Fields
from jaxseg.mmseg.translate_data import translate_transforms

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "compare_pipelines.py"))
FILE = Path(__file__).parent / "fixtures" / "pipelines.npz"
with np.load(FILE) as arrays:
    FIGURES = dict(arrays)
CASES = {case["name"]: case for case in json.loads(str(FIGURES["cases"]))}
SEEDS = {name: [seed for seed in range(9) if f"{name}.{seed}.draws" in FIGURES] for name in CASES}


def pixels(name):
    return cv2.imdecode(FIGURES[name], cv2.IMREAD_UNCHANGED)


def expected(case, seed):
    key = f"{case['name']}.{seed}"
    theirs = {"image": pixels(f"{key}.image"), "label": pixels(f"{key}.label")}
    return theirs | ({"edge": pixels(f"{key}.edge")} if f"{key}.edge" in FIGURES else {})


def given(case, folder):
    paths = {}
    for what, suffix in (("image", case["suffix"]), ("label", "png")):
        paths[what] = folder / f"{what}.{suffix}"
        paths[what].write_bytes(FIGURES[f"{case['name']}.{what}_file"].tobytes())
    meta = {"image_path": str(paths["image"]), "label_path": str(paths["label"]), "num_classes": case["classes"]}
    return {"meta": {**meta, "ignore_index": 255, "reduce_zero_label": case["reduce_zero_label"], "label_map": {}}}


def transforms(case):
    pipeline = json.loads(json.dumps(case["pipeline"]))
    return translate_transforms([Fields(step, "", {}) for step in pipeline], case["reduce_zero_label"])


@pytest.fixture(params=["installed", "missing"])
def decoder(request, monkeypatch):
    """With the quick decoder of PNGs, where it is installed, and without."""
    if request.param == "installed" and png._decoder() is None:
        pytest.skip("needs kornia-rs")
    if request.param == "missing":
        monkeypatch.setattr(png, "_decoder", lambda: None)
    return request.param


@pytest.mark.parametrize("name", CASES)
def test_pipelines_of_recipes_equal_the_reference(name, decoder, tmp_path):
    case = CASES[name]
    apart, fused = (build_transforms(transforms(case), fuse=fuse) for fuse in (False, True))
    for pipeline in (apart, fused, read_windows(fused)):
        for seed in SEEDS[name]:
            draws = json.loads(str(FIGURES[f"{name}.{seed}.draws"]))
            out = TOOL["replayed"](pipeline, apart, given(case, tmp_path), draws)
            found = TOOL["differences"](out, expected(case, seed))
            assert found["far"] <= 1e-3
            assert found["labels"] == 0


def test_the_figures_show_what_they_should(decoder):
    """All kinds of draws are in them, of pipelines that are fused."""
    kinds = {kind for name in CASES for kind, drawn in json.loads(str(FIGURES[f"{name}.0.draws"])) if drawn}
    assert kinds == {"RandomResize", "RandomChoiceResize", "RandomCrop", "RandomFlip", "PhotoMetricDistortion"}
    random = [name for name in CASES if name.endswith("train")]
    first = {name: read_windows(build_transforms(transforms(CASES[name]))).steps[0] for name in random}
    assert all(isinstance(step, LoadResizeCrop) == (decoder == "installed") for step in first.values())
    assert all(len(SEEDS[name]) == 2 for name in random)
    assert any(f"{name}.0.edge" in FIGURES for name in CASES)
    for name in random:
        one, other = (expected(CASES[name], seed)["image"] for seed in SEEDS[name])
        assert one.shape != other.shape or (one != other).any()


def test_other_choices_are_noticed(tmp_path):
    """The comparison fails where something else is drawn, or drawn from something else."""
    case = CASES["cityscapes train"]
    draws = json.loads(str(FIGURES["cityscapes train.0.draws"]))
    apart = build_transforms(transforms(case), fuse=False)
    record = given(case, tmp_path)
    crop = next(drawn for kind, drawn in draws if kind == "RandomCrop")
    crop[-1][1] += 1 if crop[-1][1] == 0 else -1  # the last window's left side
    found = TOOL["differences"](TOOL["replayed"](apart, apart, record, draws), expected(case, 0))
    assert found["far"] > 0.05
    assert found["labels"] > 0
    crop[-1][2][1] += 1
    with pytest.raises(ValueError, match="is drawn where the reference draws"):
        TOOL["replayed"](apart, apart, record, draws)
    crop[-1][2][1] -= 1
    crop.append(["integers", 0, [0, 2]])
    with pytest.raises(ValueError, match="is drawn where the reference draws"):
        TOOL["replayed"](apart, apart, record, draws)
