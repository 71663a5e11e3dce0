"""The way in from MMSegmentation."""

from jaxseg.mmseg.convert import convert

__all__ = ["convert"]
