"""Memory of train steps, and how often they are compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiling import quick_jit
from jaxseg import config as run_config
from jaxseg.engine.ahead import abstract_state, compile_train_step, count_collectives
from jaxseg.engine.mesh import make_mesh
from jaxseg.engine.step import make_train_step
from jaxseg.models import build_model
from jaxseg.models.layers import platform
from jaxseg.models.layers.platform import jit
from jaxseg.train import initial_state

SWIN = "swin.py:swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"
# What PyTorch's allocator gives the reference's step, two images of 512x512 in float32 (tools/reference_memory.py), in
# bytes: parameters and the optimizer's state, and at most so much within the step, gradients too.
REFERENCE = (686.0 + 3251.7) * 2**20


def recipe(remat: bool):
    config = run_config.load_recipe(SWIN)
    with config.unlocked():
        config.init_from, config.batch_size, config.model.remat = None, 2, remat
    return config


@pytest.mark.slow
@pytest.mark.parametrize(("remat", "share"), [(False, 1.0), (True, 0.6)])
def test_memory_of_a_step_beside_the_references(remat, share):
    _, figures = compile_train_step(recipe(remat), jax.devices()[:1], (512, 512))
    assert figures["memory"]["total"] <= share * REFERENCE
    assert figures["parameters"] == 59_941_862
    assert figures["memory"]["parameters"] == 4 * 59_941_862


def small(remat: bool):
    config = recipe(remat)
    with config.unlocked():
        backbone, heads = config.model.backbone, (config.model.decode_head, config.model.auxiliary_head)
        backbone.embed_dims, backbone.depths, backbone.num_heads, backbone.window_size = 8, (1, 1), (1, 2), 4
        backbone.strides, backbone.out_indices = (4, 2), (0, 1)
        heads[0].in_channels, heads[0].in_index, heads[0].channels, heads[0].pool_scales = (8, 16), (0, 1), 16, (1, 2)
        heads[1].in_channels, heads[1].in_index, heads[1].channels = 16, 1, 8
    return config


def test_a_step_is_compiled_once_and_remat_changes_nothing():
    rng = np.random.default_rng(0)
    batches = [
        {"image": rng.integers(0, 256, (2, 64, 64, 3), np.uint8), "label": rng.integers(0, 150, (2, 64, 64), np.uint8)}
        for _ in range(3)
    ]
    logs = {}
    for remat in (False, True):
        config = small(remat)
        model = build_model(config.model)
        assert model.backbone.with_cp == model.remat == remat
        state, optimizer = initial_state(config, model)
        step, traces = make_train_step(model, optimizer, config.preprocess, config.seed), []

        def counted(state, batch, step=step, traces=traces):
            traces.append(1)
            return step(state, batch)

        compiled = quick_jit(counted)
        logs[remat] = []
        for batch in batches:
            state, found = compiled(state, batch)
            logs[remat].append(found)
        assert len(traces) == compiled._cache_size() == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), logs[True], logs[False])


def test_what_is_computed_again_is_not_kept():
    """On CPUs, too, whose compiler would otherwise find that it has been computed already."""

    def block(x, w):
        return x + jnp.sin(jnp.tanh(x @ w)) @ w.T

    def loss(ws, x, again):
        for w in ws:
            x = (jax.checkpoint(block) if again else block)(x, w)
        return jnp.sum(x**2)

    ws, x = [jax.ShapeDtypeStruct((64, 256), jnp.float32)] * 8, jax.ShapeDtypeStruct((512, 64), jnp.float32)
    kept, again = (
        jit(lambda ws, x, again=again: jax.grad(loss)(ws, x, again)).lower(ws, x).compile().memory_analysis()
        for again in (False, True)
    )
    assert again.temp_size_in_bytes < 0.5 * kept.temp_size_in_bytes


def test_collectives_of_a_program():
    program = """
  %all-gather.1 = f32[16,8]{1,0} all-gather(f32[4,8]{1,0} %p), channel_id=1
  %start = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(bf16[4,8]{1,0} %q), channel_id=2
  %all-reduce.2 = (f32[10]{0}, f32[]) all-reduce(f32[10]{0} %a, f32[] %b), to_apply=%sum
  %x = f32[3]{0} add(f32[3]{0} %all-gather.1, f32[3]{0} %y)
"""
    assert count_collectives(program) == {
        "all-gather": {"count": 2, "bytes": 16 * 8 * 4 + 16 * 8 * 2},
        "all-reduce": {"count": 1, "bytes": 44},
    }


def test_a_step_in_bfloat16_computes_in_it():
    """All products, but those that resize logits for the losses; parameters, moments, losses and logits are float32."""
    config = small(remat=False)
    with config.unlocked():
        config.model.dtype = "bfloat16"
    lowered, state, logs = lower_for_tpu(config)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(logs)} == {jnp.dtype("float32")}
    in_float32, others = products(lowered)
    assert others > 50
    # Along rows and columns, of two heads' logits, forwards and backwards.
    assert len(in_float32) <= 8
    assert all("150" in re.split(r"\D+", line) for line in in_float32), in_float32


def lower_for_tpu(config):
    with platform.target_platform("tpu"):
        model = build_model(config.model)
        state, optimizer = abstract_state(config, model, make_mesh())
        shapes = {"image": (2, 64, 64, 3), "label": (2, 64, 64)}
        batch = {name: jax.ShapeDtypeStruct(shape, jnp.uint8) for name, shape in shapes.items()}
        step = jax.jit(make_train_step(model, optimizer, config.preprocess, config.seed))
        traced = step.trace(state, batch)
        return traced.lower(lowering_platforms=("tpu",)).as_text(), *traced.out_info


def products(program: str) -> tuple[list[str], int]:
    """Lines of matrix products and convolutions of float32, and how many others there are."""
    lines = [line for line in program.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)", line)]
    found = [line for line in lines if re.search(r": \(.*xf32>.*\) ->", line)]
    return found, len(lines) - len(found)
