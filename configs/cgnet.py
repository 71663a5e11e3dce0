"""CGNet (Wu et al. 2018): the reference's recipes by their names, and `cgnet_camvid`.

python -m jaxseg.train --config=configs/cgnet.py:cgnet_camvid --config.data.root=DIR
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from jaxseg.configs import common

CAMVID = {"mean": (105.658, 103.33, 99.625), "std": (1.0, 1.0, 1.0)}
CITYSCAPES = {"mean": (72.39239876, 82.90891754, 73.15835921), "std": (1.0, 1.0, 1.0)}
# Of the classes of Cityscapes: the rarer, the heavier.
CLASS_WEIGHT = (
    2.5959933, 6.7415504, 3.5354059, 9.8663225, 9.690899, 9.369352, 10.289121, 9.953208, 4.3097677, 9.490387,
    7.674431, 9.396905, 10.347791, 6.3927646, 10.226669, 10.241062, 10.280587, 10.396974, 10.055647,
)  # fmt: skip


def model(num_classes: int, class_weight: Sequence[float] | None = None) -> dict:
    """The backbone's last map, classified."""
    norm_cfg = {"type": "SyncBN", "eps": 1e-3}
    backbone = {
        "type": "CGNet",
        "num_channels": (32, 64, 128),
        "num_blocks": (3, 21),
        "dilations": (2, 4),
        "reductions": (8, 16),
        "norm_cfg": norm_cfg,
    }
    head = common.head(
        "FCNHead", 256, 256, num_classes,
        in_index=2, num_convs=0, concat_input=False, dropout_ratio=0.0, norm_cfg=norm_cfg,
        loss_decode=common.cross_entropy(class_weight=class_weight),
    )  # fmt: skip
    return common.encoder_decoder(backbone, head)


def adam() -> dict:
    """Adam with coupled weight decay."""
    return {"type": "Adam", "lr": 0.001, "weight_decay": 0.0005}


def cgnet_run(config: ConfigDict) -> None:
    """Adam, and an evaluation every 4,000 steps."""
    config.evaluate_every = config.checkpoint_every = 4000
    config.optimizer = adam()


def plain_crops(config: ConfigDict) -> None:
    """Crops of 680x680 with their colours as they are, whatever classes are in them.

    Eight of them on each device: what the reference's file says, though not its name.
    """
    config.batch_size = 32
    config.data.train.transforms = common.training_transforms(
        (2048, 1024), (680, 680), pad_val=CITYSCAPES["mean"], cat_max_ratio=1.0, photometric=False
    )


def cgnet_camvid() -> ConfigDict:
    """From scratch on CamVid, images of 480x360."""
    config = common.base()
    config.total_steps = 600
    config.batch_size = 8
    config.log_every = 20
    config.evaluate_every = 200
    config.checkpoint_every = 100
    config.preprocess = CAMVID
    config.data = common.data("CamVid", "data/camvid")
    config.data.train.transforms = common.training_transforms(
        (480, 360), (360, 360), pad_val=CAMVID["mean"], cat_max_ratio=1.0, photometric=False
    )
    config.data.val.transforms = config.data.test.transforms = common.evaluation_transforms()
    config.model = model(11)
    config.optimizer = adam()
    config.schedule = common.poly()
    return config


NAMES = """
cgnet_fcn_4xb4-60k_cityscapes-680x680
cgnet_fcn_4xb8-60k_cityscapes-512x1024
"""
CHANGES = {"cgnet": cgnet_run, "cgnet_fcn_4xb4-60k_cityscapes-680x680": plain_crops}
RECIPES = {
    "cgnet_camvid": cgnet_camvid,
    **common.recipes(NAMES, lambda name: model(name.num_classes, CLASS_WEIGHT), CHANGES, preprocess=CITYSCAPES),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name; by default `cgnet_camvid`."""
    return common.named(RECIPES, arg or "cgnet_camvid")
