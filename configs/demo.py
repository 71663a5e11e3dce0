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
    config.total_steps = 400
    config.batch_size = 16
    config.eval_batch_size = 32
    config.log_every = 20
    config.evaluate_every = 100
    config.checkpoint_every = 50
    config.data = common.data("Demo", demo={"size": (96, 128), "train": 400, "val": 64, "test": 64, "seed": 0})
    config.data.train.transforms = ({"type": "RandomFlip", "prob": 0.5}, {"type": "PhotoMetricDistortion"})
    config.model = common.encoder_decoder(
        backbone=common.resnet(18, stride=8, stem_channels=32, base_channels=32),
        decode_head=common.head("FCNHead", 256, 64, NUM_CLASSES, num_convs=2, concat_input=True),
        auxiliary_head=common.auxiliary_fcn(128, 32, NUM_CLASSES),
    )
    config.optimizer = common.sgd(lr=0.02)
    config.schedule = common.poly(warmup_steps=20)
    return config
