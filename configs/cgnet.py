"""CGNet (Wu et al. 2018): the recipe `cgnet_camvid`.

python -m jaxseg.train --config=configs/cgnet.py:cgnet_camvid --config.data.root=DIR
"""

from ml_collections import ConfigDict

from jaxseg.configs import common

CAMVID = {"mean": (105.658, 103.33, 99.625), "std": (1.0, 1.0, 1.0)}


def cgnet(num_classes: int) -> dict:
    """The model: the backbone's last map, classified."""
    norm_cfg = {"type": "SyncBN", "eps": 1e-3}
    backbone = {
        "type": "CGNet",
        "in_channels": 3,
        "num_channels": (32, 64, 128),
        "num_blocks": (3, 21),
        "dilations": (2, 4),
        "reductions": (8, 16),
        "norm_cfg": norm_cfg,
        "norm_eval": False,
        "with_cp": False,
    }
    head = common.head(
        "FCNHead", 256, 256, num_classes,
        in_index=2, num_convs=0, concat_input=False, dropout_ratio=0.0, norm_cfg=norm_cfg,
    )  # fmt: skip
    return common.encoder_decoder(backbone, head)


def adam() -> dict:
    """Adam with coupled weight decay."""
    return common.optimizer("Adam", lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=5e-4)


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
    config.model = cgnet(11)
    config.optimizer = adam()
    config.schedule = common.poly()
    return config


RECIPES = {"cgnet_camvid": cgnet_camvid}


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe of that name; by default `cgnet_camvid`."""
    return common.named(RECIPES, arg or "cgnet_camvid")
