"""The way in from MMSegmentation."""

from jaxseg.mmseg.config import parse_overrides, read_config
from jaxseg.mmseg.convert import convert

__all__ = ["convert", "parse_overrides", "read_config"]
