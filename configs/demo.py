"""The demo: a small network on a generated set of textured shapes. It needs no data and takes minutes on a CPU.

python -m jaxseg.train
"""

from ml_collections import ConfigDict

from jaxseg.configs import common

NUM_CLASSES = 6


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; it takes no argument."""
    if arg:
        raise common.no_recipe(arg, ())
    config = common.base()
    config.name = "demo"
    config.total_steps = 300
    config.batch_size = 16
    config.eval_batch_size = 32
    config.log_every = 20
    config.evaluate_every = 100
    config.checkpoint_every = 50
    config.data = common.data("Demo", demo={"size": (96, 128), "train": 400, "val": 64, "test": 64, "seed": 0})
    config.data.train.transforms = ({"type": "RandomFlip", "prob": 0.5}, {"type": "PhotoMetricDistortion"})
    channels = (32, 64, 128, 256)
    config.model = common.encoder_decoder(
        common.resnet(18, stride=32, stem_channels=32, base_channels=32),
        common.head("UPerHead", channels, 64, NUM_CLASSES, in_index=(0, 1, 2, 3), pool_scales=(1, 2, 3)),
        common.auxiliary_fcn(channels[2], 32, NUM_CLASSES),
    )
    config.optimizer = {"type": "AdamW", "lr": 2e-3, "weight_decay": 0.01}
    config.schedule = common.poly(eta_min=0.0, warmup_steps=20)
    return config
