"""The way in from MMSegmentation."""

from jaxseg.mmseg.checkpoint import Checkpoint, load_checkpoint, read_checkpoint
from jaxseg.mmseg.config import parse_overrides, read_config
from jaxseg.mmseg.convert import convert
from jaxseg.mmseg.translate import Translation, load_config, translate, translate_file

__all__ = [
    "Checkpoint",
    "Translation",
    "convert",
    "load_checkpoint",
    "load_config",
    "parse_overrides",
    "read_checkpoint",
    "read_config",
    "translate",
    "translate_file",
]
