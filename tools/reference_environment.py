"""What stands in for packages that the reference imports, and does not use where tools here run it.

Import this before mmcv, mmseg, mmpretrain or mmdet. Compiled operators of mmcv, which mmcv-lite lacks, are stood in for
while mmseg is imported (`without_operators` ends that); packages that are not installed, whenever they are asked for.
"""

import contextlib
import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any
from unittest import mock

PACKAGES = (
    "modelindex",
    "pycocotools",
    "shapely",
    "terminaltables",
    "torchvision",
    "tqdm",
    "transformers",
)


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `PACKAGES` that nothing else finds."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Finds those."""
        if name.split(".")[0] in PACKAGES:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        """A module that has everything."""
        return mock.MagicMock(__path__=[], __spec__=spec, __name__=spec.name)

    def exec_module(self, module: Any) -> None:
        """Does nothing."""


def without_operators() -> None:
    """Ends the stand-in for mmcv's operators: building an optimizer, mmengine looks for them and must find none."""
    sys.modules.pop("mmcv._ext", None)


sys.meta_path.append(StandIns())
sys.modules["six"] = six = types.ModuleType("six")
sys.modules["six.moves"] = six.moves = types.ModuleType("six.moves")
six.moves.map, six.moves.zip = map, zip
sys.modules["mmcv._ext"] = mock.MagicMock()

with contextlib.suppress(ImportError):  # only mmseg's heads of masks need it, and before they are imported
    import mmdet.models  # noqa: F401
