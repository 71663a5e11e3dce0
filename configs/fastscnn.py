"""Fast-SCNN (Poudel et al. 2019): the reference's recipe by its name."""

from ml_collections import ConfigDict

from jaxseg.configs import common

NORM = {**common.BN, "momentum": 0.01}


def model(name: common.RecipeName) -> dict:
    """A head on the sum of the branches, and an auxiliary one on each of them; classes compete with nothing."""

    def head(kind: str, in_channels: int, in_index: int, channels: int, loss_weight: float, **fields) -> dict:
        loss = common.cross_entropy(use_sigmoid=True, loss_weight=loss_weight)
        fields |= {"in_index": in_index, "norm_cfg": dict(NORM), "concat_input": False, "loss_decode": loss}
        return common.head(kind, in_channels, channels, name.num_classes, **fields)

    return common.encoder_decoder(
        {"type": "FastSCNN", "norm_cfg": dict(NORM)},
        head("DepthwiseSeparableFCNHead", 128, -1, 128, 1.0),
        tuple(head("FCNHead", width, index, 32, 0.4, num_convs=1) for width, index in ((128, -2), (64, -3))),
    )


def optimizer(config: ConfigDict) -> None:
    """A rate for batches of 32 images."""
    config.optimizer = common.sgd(lr=0.12, weight_decay=4e-5)


NAMES = "fast_scnn_8xb4-160k_cityscapes-512x1024"
SPELLED = {NAMES: "fastscnn_scnn_8xb4-160k_cityscapes-512x1024"}
RECIPES = common.recipes(NAMES, model, {NAMES: optimizer}, spelled=SPELLED)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name."""
    return common.named(RECIPES, arg)
