"""The tiny recipe on a folder of files, of images of one size or of several."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jaxseg.configs import common
from jaxseg.data import write_demo

CLASSES = ("background", "disk", "box", "triangle", "ring", "cross")


def get_config(arg: str | None = None) -> ConfigDict:
    """The recipe; an argument is the number of steps."""
    config = common.base()
    config.name = "tiny folder"
    config.total_steps = int(arg or 4)
    config.batch_size = 4
    config.eval_batch_size = 4
    config.log_every = 1
    config.evaluate_every = 4
    config.checkpoint_every = 2
    config.data = common.data("FolderDataset", classes=CLASSES)
    config.data.train.transforms = common.training_transforms((64, 48), (32, 48), cat_max_ratio=1.0)
    config.data.val.transforms = config.data.test.transforms = common.evaluation_transforms()
    config.data.test.split = "val"
    config.model = common.encoder_decoder(
        common.resnet(18, stride=32, stem_channels=8, base_channels=8),
        common.head("FCNHead", 32, 8, None, in_index=2, num_convs=1),
    )
    config.optimizer = common.sgd(lr=0.02)
    config.schedule = common.poly()
    return config


def write_folder(folder: Path, train: int = 6, val: int = 5) -> Path:
    """Writes a small data set with images of 48x64, every second one of the validation part 40x56."""
    write_demo(folder, size=(48, 64), train=train, val=val)
    for kind in ("images", "annotations"):
        for path in sorted((folder / kind / "val").iterdir())[1::2]:
            Image.fromarray(np.array(Image.open(path))[:40, :56]).save(path)
    return folder
