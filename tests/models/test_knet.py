"""K-Net's head: what it takes of the head that it begins with, and fields that do not fit."""

import jax
import jax.numpy as jnp
import pytest

from jaxseg.errors import ConfigError
from jaxseg.models import HEADS
from jaxseg.models.registry import build
from small_models import head_config

UPDATOR = {"type": "KernelUpdator", "in_channels": 4, "feat_channels": 4}
UPDATE = {
    "type": "KernelUpdateHead",
    "num_heads": 2,
    "feedforward_channels": 6,
    "in_channels": 8,
    "out_channels": 8,
    "kernel_updator_cfg": UPDATOR,
}
MAPS = [jnp.zeros((1, 6, 4, 32))] * 4


def knet(generate=None, update=None, **fields):
    """A head of one stage."""
    begin = generate or {}
    if "type" not in begin:
        begin = head_config("FCNHead", num_convs=1, align_corners=True, ignore_index=7) | begin
    fields = {"num_stages": 1, "kernel_generate_head": begin, "kernel_update_head": (UPDATE | (update or {}),)} | fields
    return build(HEADS, {"type": "IterativeDecodeHead", **fields}, "model.decode_head")


def test_first_head_says_what_losses_and_inference_ask():
    head = knet({"loss_decode": {"type": "DiceLoss"}})
    assert (head.num_classes, head.logit_channels, head.align_corners, head.ignore_index) == (5, 5, True, 7)
    assert dict(head.loss_decode) == {"type": "DiceLoss"}
    assert head.sampler is head.threshold is None


def test_number_of_classes_can_be_said_in_one_place():
    head = knet(num_classes=9)
    assert (head.num_classes, head.logit_channels) == (9, 9)
    logits, _ = jax.eval_shape(head.init_with_output, jax.random.key(0), MAPS)
    assert logits.shape == (1, 6, 4, 9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_stages": 2}, "kernel_update_head has 1 entries, num_stages=2 needs as many"),
        ({"generate": head_config("DAHead", pam_channels=2)}, "'DAHead': needs a head with one map"),
        ({"generate": {"num_class": 3}}, "kernel_generate_head: FCNHead has no field 'num_class'"),
        ({"update": {"out_channels": 4}}, r"kernel_update_head_0.out_channels=4 must be in_channels=8"),
        ({"update": {"in_channels": 4, "out_channels": 4}}, "in_channels=4: the map has 8 channels"),
        ({"update": {"conv_kernel_size": 3}}, "conv_kernel_size=3: only 1 is supported"),
        ({"update": {"num_heads": 3}}, "num_heads=3 must divide in_channels=8"),
        ({"update": {"kernel_updator_cfg": UPDATOR | {"feat_channels": 8}}}, "must be one number"),
        ({"update": {"kernel_updator_cfg": UPDATOR | {"type": "DynamicConv"}}}, "type='DynamicConv' is not known"),
        ({"update": {"num_head": 3}}, "KernelUpdateHead has no field 'num_head'. Did you mean num_heads"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(knet(**fields).init, jax.random.key(0), MAPS)
