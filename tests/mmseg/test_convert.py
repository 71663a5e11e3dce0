"""State dicts of the reference become variables: names, layouts, and what is said when they don't fit."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.errors import CheckpointError
from jaxseg.mmseg.convert import convert, reference_names, to_ours, to_state_dict
from jaxseg.models import build_model
from jaxseg.models.names import dotted_name, reference_name, second_names, variable_shapes
from reference import GOLDEN, fill, load_npz, state_dict, structure
from small_models import model_config

NAMES = sorted(path.stem for path in GOLDEN.glob("*.npz"))


def keys_of(name):
    """Names and shapes; of modules that the reference shares, by the first of their names."""
    meta, _ = load_npz(GOLDEN / f"{name}.npz")
    model = build_model(structure(name))
    seconds = second_names(model, variable_shapes(model)).values()
    return [key for key in meta["keys"] if not key[0].endswith("num_batches_tracked") and key[0] not in seconds]


@pytest.fixture(scope="module")
def model():
    return build_model(model_config())


def names_and_shapes(model):
    """The reference's name ("_" for ".") and shape of every variable of ours."""
    result = {}
    for path, leaf in variable_shapes(model).items():
        shape = leaf.shape
        if path[-1] == "kernel":
            shape = (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
        result[reference_name(path[1:])] = shape
    return result


@pytest.fixture
def tensors(model):
    return {name: fill(name, shape) for name, shape in names_and_shapes(model).items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_reference_has_one_variable(name):
    """And the way back leads to the same name."""
    model = build_model(structure(name))
    keys = keys_of(name)
    paths = reference_names(model, [key[0] for key in keys])
    assert list(paths) == [key[0] for key in keys]
    assert sorted(paths.values()) == sorted(variable_shapes(model))
    for key, path in paths.items():
        assert reference_name(path[1:]).replace(".", "_") == key.replace(".", "_")
        assert dotted_name(model, path[1:]) == key


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name):
    model = build_model(structure(name))
    variables = flatten_dict(convert(model, state_dict(keys_of(name))))
    shapes = variable_shapes(model)
    assert {path: leaf.shape for path, leaf in variables.items()} == {p: leaf.shape for p, leaf in shapes.items()}
    assert {leaf.dtype for leaf in variables.values()} == {np.dtype(np.float32)}
    assert sum(leaf.size for leaf in variables.values()) == sum(int(np.prod(shape)) for _, shape, _ in keys_of(name))


ANN = "ann__ann_r50-d8_4xb2-40k_cityscapes-512x1024"


def test_names_of_shared_modules():
    """What the reference has twice fills one variable: the second counts. The way back writes both, with counters."""
    model = build_model(structure(ANN))
    keys = [key[0] for key in load_npz(GOLDEN / f"{ANN}.npz")[0]["keys"]]
    seconds = second_names(model, variable_shapes(model))
    assert sorted(seconds.values()) == sorted(
        key for key in keys if "context.stages.0.query_project" in key and "num_batches" not in key
    )
    tensors = state_dict(load_npz(GOLDEN / f"{ANN}.npz")[0]["keys"])
    variables = convert(model, tensors)
    back = to_state_dict(model, variables)
    assert sorted(back) == sorted(keys)
    for name in seconds.values():
        first = name.replace("query_project", "key_project")
        assert not np.array_equal(tensors[first], tensors[name])
        np.testing.assert_array_equal(back[name], tensors[name])
        np.testing.assert_array_equal(back[first], tensors[name])
    for names in (seconds.values(), [name.replace("query_project", "key_project") for name in seconds.values()]):
        once = {name: tensor for name, tensor in back.items() if name not in names}
        jax.tree.map(np.testing.assert_array_equal, convert(model, once), variables)
    with pytest.raises(CheckpointError, match="context/stages_0/key_project"):
        convert(model, {name: tensor for name, tensor in back.items() if "context.stages.0" not in name})


def test_layouts():
    conv = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)
    assert to_ours(conv, ("params", "conv", "kernel"))[4, 6, 2, 1] == conv[1, 2, 4, 6]
    dense = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(to_ours(dense, ("params", "fc", "kernel")), dense.T)
    np.testing.assert_array_equal(to_ours(dense, ("params", "position", "table")), dense)


def test_half_precision_becomes_float32(model, tensors):
    variables = convert(model, {name: value.astype(np.float16) for name, value in tensors.items()})
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def test_counters_are_ignored(model, tensors):
    more = {"backbone.layer0.bn.num_batches_tracked": np.int64(7), "other.num_batches_tracked": np.int64(7)}
    jax.tree.map(np.testing.assert_array_equal, convert(model, tensors | more), convert(model, tensors))


def test_missing_and_left_over(model, tensors):
    """Both sides are listed, each with what it may have been meant to be."""
    tensors["backbone.layer0.conv.weigth"] = tensors.pop("backbone.layer0.conv.weight")
    tensors["teacher.conv.weight"] = np.zeros((1, 1, 1, 1))
    with pytest.raises(CheckpointError) as error:
        convert(model, tensors)
    lines = str(error.value).splitlines()
    assert lines[0] == "The checkpoint does not fit the model (3 problems):"
    assert sorted(line.strip() for line in lines[1:]) == [
        "not in the checkpoint: params/backbone/layer0/conv/kernel. "
        "Did you mean backbone.layer0.conv.weigth or teacher.conv.weight?",
        "not in the model: backbone.layer0.conv.weigth. Did you mean backbone.layer0.conv.weight?",
        "not in the model: teacher.conv.weight. Did you mean backbone.layer0.conv.weight?",
    ]


def test_shapes_that_differ(model, tensors):
    tensors["decode_head.conv_seg.weight"] = np.zeros((19, 8, 1, 1))
    tensors["decode_head.conv_seg.bias"] = np.zeros(19)
    with pytest.raises(CheckpointError) as error:
        convert(model, tensors)
    message = str(error.value)
    assert "(2 problems)" in message
    assert "decode_head.conv_seg.weight: (1, 1, 8, 19) does not fit params/decode_head/conv_seg/kernel" in message
    assert "(1, 1, 8, 5)" in message
    assert "decode_head.conv_seg.bias: (19,) does not fit params/decode_head/conv_seg/bias (5,)" in message


def test_all_is_wrong(model):
    """Many problems are counted, and the first of them shown."""
    with pytest.raises(CheckpointError) as error:
        convert(model, {f"module.{i}.weight": np.zeros(3) for i in range(60)})
    lines = str(error.value).splitlines()
    assert f"({len(variable_shapes(model)) + 60} problems)" in lines[0]
    assert len(lines) == 42
    assert lines[-1] == f"  and {len(variable_shapes(model)) + 60 - 40} more"


def test_nothing_is_filled_silently(model, tensors):
    for name in list(tensors)[::3]:
        with pytest.raises(CheckpointError, match="not in the checkpoint"):
            convert(model, {key: value for key, value in tensors.items() if key != name})
