"""Backbones, heads and necks against the reference, in float64: every variant of the fields, even and odd sizes."""

import numpy as np
import pytest

from compiling import quick_jit
from jaxseg.models import BACKBONES, HEADS, NECKS
from jaxseg.models.registry import build
from reference import FIXTURES, as_dtype, filled_variables, load_npz, nchw, nhwc, precision

CASES = {path.stem: load_npz(path) for path in sorted((FIXTURES / "figures").glob("*.npz"))}


def each(part):
    return pytest.mark.parametrize("name", [name for name, (meta, _) in CASES.items() if meta["part"] == part])


def inputs(case):
    rng = np.random.default_rng(case["input_seed"])
    return [nhwc(rng.normal(0, 1, shape).astype(np.float32)).astype(np.float64) for shape in case["input_shapes"]]


def check(name, outputs):
    case, arrays = CASES[name]
    assert len(outputs) == len(case["outputs"])
    for i, (output, expected) in enumerate(zip(outputs, case["outputs"], strict=True)):
        output = nchw(output)
        assert list(output.shape) == expected["shape"]
        places = np.random.default_rng(i).integers(0, output.size, case["samples"])
        np.testing.assert_allclose(output.ravel()[places], arrays[str(i)], rtol=0, atol=1e-11 * expected["std"])
        np.testing.assert_allclose([output.mean(), output.std()], [expected["mean"], expected["std"]], rtol=1e-9)


@each("backbone")
def test_backbone(name):
    case, _ = CASES[name]
    backbone = build(BACKBONES, case["config"], "backbone")
    (images,) = inputs(case)
    with precision(np.float64):
        variables = as_dtype(filled_variables(backbone, case["keys"], images), np.float64)
        outputs = quick_jit(backbone.apply)(variables, images)
    check(name, outputs)


@each("head")
def test_head(name):
    case, _ = CASES[name]
    head = build(HEADS, case["config"], "decode_head")
    features = inputs(case)
    with precision(np.float64):
        variables = as_dtype(filled_variables(head, case["keys"], features), np.float64)
        logits = quick_jit(head.apply)(variables, features)
    check(name, [logits])


@each("neck")
def test_neck(name):
    case, _ = CASES[name]
    neck = build(NECKS, case["config"], "neck")
    features = inputs(case)
    with precision(np.float64):
        variables = as_dtype(filled_variables(neck, case["keys"], features), np.float64)
        outputs = quick_jit(neck.apply)(variables, features)
    check(name, outputs)
