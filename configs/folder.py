"""Your own folder: a small network that trains on a laptop, for images/{train,val} and annotations/{train,val}.

python -m jaxseg.train --config=configs/folder.py --config.data.root=DIR --config.data.classes="('no', 'yes')"
"""

from ml_collections import ConfigDict

from jaxseg.configs import common

CROP = (256, 256)


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; it takes no argument. The number of classes follows from `data.classes`."""
    if arg:
        raise common.no_recipe(arg, ())
    config = common.base()
    config.name = "folder"
    config.total_steps = 2000
    config.batch_size = 8
    config.log_every = 20
    config.evaluate_every = 500
    config.checkpoint_every = 250
    config.data = common.data("FolderDataset")
    config.data.train.transforms = common.training_transforms(
        None, CROP, pad_val=common.IMAGENET["mean"], cat_max_ratio=1.0
    )
    config.data.val.transforms = config.data.test.transforms = common.evaluation_transforms()
    channels = common.resnet_channels(18)
    config.model = common.encoder_decoder(
        common.resnet(18, stride=32),
        common.head("UPerHead", channels, 128, None, in_index=(0, 1, 2, 3), pool_scales=(1, 2, 3, 6)),
        common.auxiliary_fcn(channels[2], 64, None),
    )
    config.optimizer = {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.01}
    config.schedule = common.poly(eta_min=0.0, warmup_steps=100)
    return config
