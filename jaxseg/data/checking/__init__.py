"""The check of a data set: every file is looked at once, then rules find what is wrong, and a report says so."""

from jaxseg.data.checking.dataset import CheckedData, CheckedPart, check_dataset
from jaxseg.data.checking.findings import KINDS, SEVERITIES, Finding, Kind, groups
from jaxseg.data.checking.look import Look, look_at
from jaxseg.data.checking.report import as_json, common_folder, shown, write_check

__all__ = [
    "KINDS",
    "SEVERITIES",
    "CheckedData",
    "CheckedPart",
    "Finding",
    "Kind",
    "Look",
    "as_json",
    "check_dataset",
    "common_folder",
    "groups",
    "look_at",
    "shown",
    "write_check",
]
