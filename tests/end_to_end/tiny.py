"""The smallest recipe that does all that a run does, for tests: seconds on a CPU."""

from ml_collections import ConfigDict

from jaxseg.configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; an argument is the number of steps."""
    config = common.base()
    config.name = "tiny"
    config.total_steps = int(arg or 12)
    config.batch_size = 8
    config.eval_batch_size = 8
    config.log_every = 1
    config.evaluate_every = 6
    config.checkpoint_every = 2
    config.data = common.data("Demo", demo={"size": (48, 64), "train": 24, "val": 11, "test": 5, "seed": 0})
    config.data.train.transforms = (
        {"type": "RandomResize", "scale": (64, 48), "ratio_range": (0.8, 1.5), "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": (32, 48), "cat_max_ratio": 0.9},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PhotoMetricDistortion"},
        {"type": "Pad", "size": (32, 48)},
    )
    config.model = common.encoder_decoder(
        common.resnet(18, stride=32, stem_channels=8, base_channels=8),
        common.head("FCNHead", 32, 8, None, in_index=2, num_convs=1),
        common.auxiliary_fcn(16, 8, None, in_index=1),
    )
    config.optimizer = common.sgd(lr=0.02)
    config.schedule = common.poly(warmup_steps=3)
    return config
