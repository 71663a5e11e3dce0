"""From a data set as it is downloaded to the folders that its row of `DATASETS` reads: one description an archive."""

from jaxseg.data.converters import aerial, medical, scenes
from jaxseg.data.converters.core import Converter, convert, default_out
from jaxseg.data.converters.jobs import Report

CONVERTERS: dict[str, Converter] = dict(
    sorted({**aerial.CONVERTERS, **medical.CONVERTERS, **scenes.CONVERTERS}.items())
)

__all__ = ["CONVERTERS", "Converter", "Report", "convert", "default_out"]
