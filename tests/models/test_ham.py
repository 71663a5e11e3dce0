"""The matrix factorisation of SegNeXt's head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.models import HEADS
from jaxseg.models.heads.ham import Factorisation
from jaxseg.models.registry import build
from small_models import head_config

MAP = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (2, 5, 7, 12)), jnp.float32)


def factorise(train=True, key=None, **fields):
    rngs = None if key is None else {"bases": jax.random.key(key)}
    return np.asarray(Factorisation(MD_R=4, **fields).apply({}, MAP, train, rngs=rngs))


def test_bases_are_drawn_by_the_key_while_training():
    np.testing.assert_array_equal(factorise(), factorise())
    np.testing.assert_array_equal(factorise(key=1), factorise(key=1))
    assert np.abs(factorise(key=1) - factorise(key=2)).max() > 1e-3
    np.testing.assert_array_equal(factorise(train=False, key=1), factorise(train=False))
    np.testing.assert_array_equal(factorise(key=1, rand_init=False), factorise())


def test_every_image_has_bases_of_its_own():
    one = Factorisation(MD_R=4).apply({}, MAP[jnp.array([0, 0])], True, rngs={"bases": jax.random.key(0)})
    assert np.abs(one[0] - one[1]).max() > 1e-3


def test_updates_bring_the_product_nearer_to_the_map():
    errors = [np.abs(factorise(False, eval_steps=steps, MD_S=2) - MAP).mean() for steps in (0, 3, 50)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.6 * errors[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ham_kwargs": {"MD_T": 1}}, "(?s)ham_kwargs=.*there is no field 'MD_T'. Did you mean MD_"),
        ({"ham_kwargs": {"MD_S": 3}}, "ham_channels=16: is not a multiple of MD_S=3"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    config = head_config("LightHamHead", in_channels=(8, 12), in_index=(0, 1), ham_channels=16, **fields)
    head = build(HEADS, config, "decode_head")
    with pytest.raises(ConfigError, match=message):
        head.init(jax.random.key(0), [jnp.zeros((1, 4, 4, channels)) for channels in (8, 12)])
