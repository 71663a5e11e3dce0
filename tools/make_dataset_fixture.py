"""Write what MMSegmentation 1.2.2 says about data sets: names, colours, suffixes, and the folders of its configs.

Runs in the environment of the reference that `tools/make_reference_fixtures.py` describes::

    python tools/make_dataset_fixture.py tests/data/fixtures/datasets.json

The file has `types`, by the `type` of a data set, and `layouts`, by config: for each part a list of the data
sets whose records follow one another, with their type and folders.
"""

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.modules["mmcv._ext"] = mock.MagicMock()  # mmcv-lite lacks the compiled operators; nothing here runs one

import mmseg.datasets  # noqa: E402
from mmengine import Config  # noqa: E402

CONFIGS = Path(mmseg.__path__[0]) / ".mim" / "configs"
# Of no data set in particular, or of one that says itself what its classes are.
PLAIN = ("BaseSegDataset", "BaseCDDataset", "DecathlonDataset", "DSDLSegDataset")
NIGHT = "pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024_{}.py"
BESIDES_THE_BASE = (NIGHT.format("dark-zurich-1920x1080"), NIGHT.format("night-driving-1920x1080"))


@contextlib.contextmanager
def all_files_exist() -> Iterator[None]:
    """Every file that a data set looks for exists."""
    with mock.patch("mmengine.fileio.exists", return_value=True), mock.patch("os.path.isfile", return_value=True):
        yield


def types() -> dict[str, Any]:
    """The classes of data sets, as they are without arguments."""
    found = {}
    for name in sorted(mmseg.datasets.__all__):
        cls = getattr(mmseg.datasets, name)
        if not hasattr(cls, "METAINFO"):
            continue
        if name in PLAIN:
            assert not cls.METAINFO, name
            found[name] = {}
            continue
        with all_files_exist():
            dataset = cls(ann_file="", lazy_init=True)
        found[name] = {
            "classes": cls.METAINFO["classes"],
            "palette": [tuple(color) for color in cls.METAINFO.get("palette", ())],
            "image_suffix": dataset.img_suffix,
            "image_suffix2": getattr(dataset, "img_suffix2", None),
            "label_suffix": dataset.seg_map_suffix,
            "reduce_zero_label": dataset.reduce_zero_label,
            "ignore_index": dataset.ignore_index,
        }
    return found


def data_sets(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The data sets within wrappers, in order."""
    inner = config.get("datasets") or ([config["dataset"]] if "dataset" in config else None)
    if inner is not None:
        return [one for each in inner for one in data_sets(each)]
    metainfo, prefix = config.get("metainfo") or {}, config["data_prefix"]
    return [
        {
            "type": config["type"],
            "image_dir": prefix["img_path"],
            "image_dir2": prefix.get("img_path2"),
            "label_dir": prefix.get("seg_map_path", prefix.get("depth_map_path")),
            "split_file": config.get("ann_file"),
            "reduce_zero_label": config.get("reduce_zero_label"),
            "classes": metainfo.get("classes"),
            "palette": metainfo.get("palette"),
        }
    ]


def layouts(known: dict[str, Any]) -> dict[str, Any]:
    """The folders of every config of a data set of a known type."""
    found = {}
    for path in (
        *sorted((CONFIGS / "_base_" / "datasets").glob("*.py")),
        *(CONFIGS / name for name in BESIDES_THE_BASE),
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            config = Config.fromfile(path)
        if config.dataset_type not in known:
            continue
        parts = {part: data_sets(config[f"{part}_dataloader"]["dataset"]) for part in ("train", "val", "test")}
        if parts not in found.values():  # crops of other sizes change nothing here
            found[path.stem] = parts
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    known = types()
    # One line a row, so that a difference shows which.
    blocks = {"types": known, "layouts": layouts(known)}
    lines = [
        f'"{block}": {{\n' + ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()) + "\n}"
        for block, rows in blocks.items()
    ]
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
