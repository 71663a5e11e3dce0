"""The way in from MMSegmentation."""

from jaxseg.mmseg.checkpoint import Checkpoint, load_checkpoint, read_checkpoint
from jaxseg.mmseg.config import parse_overrides, read_config
from jaxseg.mmseg.convert import convert

__all__ = ["Checkpoint", "convert", "load_checkpoint", "parse_overrides", "read_checkpoint", "read_config"]
