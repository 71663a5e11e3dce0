"""Data sets, transforms and loading: from files on disk to batches of uint8 images and integer labels."""

from jaxseg.data.checks import check_source
from jaxseg.data.datasets import DATASETS, DatasetInfo
from jaxseg.data.demo import DemoSource, write_demo
from jaxseg.data.loader import eval_batches, stack_records, train_batches
from jaxseg.data.sources import FolderSource, Source, build_source
from jaxseg.data.transforms import TRANSFORMS, build_transforms

__all__ = [
    "DATASETS",
    "TRANSFORMS",
    "DatasetInfo",
    "DemoSource",
    "FolderSource",
    "Source",
    "build_source",
    "build_transforms",
    "check_source",
    "eval_batches",
    "stack_records",
    "train_batches",
    "write_demo",
]
