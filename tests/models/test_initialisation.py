"""Initial weights against the reference, in distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.models import BACKBONES, HEADS, NECKS
from jaxseg.models.names import reference_name
from jaxseg.models.registry import build
from reference import FIXTURES, load_json

CASES = [load_json(path) for path in sorted((FIXTURES / "initialisation").glob("*.json"))]


def initial_variables(config, seeds):
    """Variables by the reference's names ("_" for "."), with an axis of seeds in front."""
    if config["type"] in BACKBONES:
        module = build(BACKBONES, config, "backbone")
        inputs = jnp.zeros((1, *getattr(module, "sample_size", (64, 64)), 3))
    elif config["type"] in NECKS:
        counts = config.get("in_channels", [config.get("embed_dim")] * 4)
        module, inputs = build(NECKS, config, "neck"), [jnp.zeros((1, 8, 8, c)) for c in counts]
    else:
        module = build(HEADS, config, "head")
        count = config.get("kernel_generate_head", config)["in_channels"]
        maps = [jnp.zeros((1, 8, 8, c)) for c in ([count] if isinstance(count, int) else count)]
        inputs = maps
    init = jax.jit(lambda key: module.init(key, inputs))
    # XLA's own generator compiles many times faster than JAX's default one.
    variables = [flatten_dict(init(jax.random.key(seed, impl="unsafe_rbg"))) for seed in range(seeds)]
    return {
        reference_name(path[1:]).replace(".", "_"): np.stack([leaves[path] for leaves in variables])
        for path in variables[0]
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_distributions(case):
    """Means and standard deviations, within five standard errors, and the tails where there is enough to see them."""
    variables = initial_variables(case["config"], case["seeds"])
    assert set(variables) == {name.replace(".", "_") for name in case["params"]}
    for name, expected in case["params"].items():
        values = np.asarray(variables[name.replace(".", "_")], np.float64)
        assert values[0].size == np.prod(expected["shape"]), name
        spread, error = expected["std"], 5 * (2 / values.size) ** 0.5
        assert abs(values.mean() - expected["mean"]) <= error * spread + 1e-6 * abs(expected["mean"]), name
        assert abs(values.std() - spread) <= error * spread, name
        if values.size >= 1000 and spread > 0:  # a normal distribution reaches beyond 3, a uniform one to 1.73
            reach = max(-expected["min"], expected["max"]) / spread
            assert (np.abs(values).max() / spread > 2.4) == (reach > 2.4), name


def test_seeds_matter():
    (config,) = (case["config"] for case in CASES if case["name"] == "fcn")
    kernel = initial_variables(config, 2)["convs_0_conv_weight"]
    assert (kernel[0] != kernel[1]).mean() > 0.99
