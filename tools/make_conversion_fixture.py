"""Write what MMSegmentation 1.2.2's converters make of small made-up archives: names and sums of pixels.

The archives are made in this project's environment, the fixture in that of the reference, which
`tools/make_reference_fixtures.py` describes, with nibabel, cityscapesscripts and pycocotools besides, and Pillow 9.5:
10 and later write the masks of iSAID, which have no palette, with one bit. Pillow 11 and later draw polygons a little
otherwise, so the masks of Cityscapes are left out; the test draws them itself::

    PYTHONPATH=tests python -c "import made_archives, pathlib; \
        [make(pathlib.Path('made', name)) for name, make in made_archives.ARCHIVES.items()]"
    PYTHONPATH=tests python tools/make_conversion_fixture.py made tests/data/fixtures/conversions.json

Where the reference wants archives extracted or put together, that is done first, as its guide says.
"""

import argparse
import importlib.util
import json
import sys
import tarfile
import tempfile
import types
import zipfile
from collections import defaultdict
from pathlib import Path
from unittest import mock

import mmcv  # noqa: F401  (its compiled operators are not needed here)
import numpy as np
from pycocotools import mask as coco_mask

from pixel_sums import pixel_sum

SCRIPTS = (
    Path(importlib.util.find_spec("mmseg").submodule_search_locations[0]) / ".mim" / "tools" / "dataset_converters"
)
PICTURES = (".png", ".jpg", ".txt")
# What was in folders that the reference converts in place, and does not belong to the result.
LEFT_OUT = ("labelIds.png", "gtFine_labelTrainIds.png", "license.txt")
BESIDES = ("SegmentationObject/", "Annotations/", "JPEGImages/2008_000009")


class Detail:
    """What the converter of Pascal Context takes of the package `detail`, which no registry has."""

    def __init__(self, file: str, images: str, phase: str):
        data = json.loads(Path(file).read_text())
        self.images = [image for image in data["images"] if image["phase"] == phase]
        self.regions = defaultdict(list)
        for region in data["annos_segmentation"]:
            self.regions[region["image_id"]].append(region)

    def getImgs(self) -> list[dict]:  # noqa: D102
        return self.images

    def getMask(self, image: dict) -> np.ndarray:  # noqa: D102
        mask = np.zeros((image["height"], image["width"]))
        for region in self.regions[image["image_id"]]:
            mask[np.nonzero(coco_mask.decode(region["segmentation"]))] = region["category_id"]
        return mask


def extract(archive: Path, folder: Path) -> None:
    """Extracts an archive of ours."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    else:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")


def arguments(name: str, made: Path, work: Path) -> tuple[list[str], Path]:
    """The words of the reference's command, and the folder of its result."""
    out = work / "out"
    archives = sorted(path for path in made.iterdir() if path.is_file())
    if name in ("chase_db1", "nyu"):
        return [str(archives[0]), "-o", str(out)], out
    if name == "drive":
        return [str(made / "training.zip"), str(made / "test.zip"), "-o", str(out)], out
    if name == "hrf":
        kinds = [
            f"{kind}{end}.zip"
            for kind in ("healthy", "glaucoma", "diabetic_retinopathy")
            for end in ("", "_manualsegm")
        ]
        return [*(str(made / kind) for kind in kinds), "-o", str(out)], out
    if name == "stare":
        return [
            *(str(made / f"{kind}.tar") for kind in ("stare-images", "labels-ah", "labels-vk")),
            "-o",
            str(out),
        ], out
    if name in ("loveda", "potsdam", "vaihingen"):
        return [str(made), "-o", str(out)], out
    if name == "isaid":
        return [str(made / "iSAID"), "-o", str(out)], out
    if name == "refuge":
        return ["--raw_data_root", str(made / "REFUGE2"), "-o", str(out)], out
    if name == "coco_stuff164k":
        for archive in archives:
            extract(archive, work / ("annotations" if "stuff" in archive.name else "images"))
        return [str(work), "-o", str(out), "--nproc", "1"], out
    for archive in archives:
        if archive.suffix != ".json":
            extract(archive, work)
    if name == "levircd":
        return ["--dataset_path", str(work / "LEVIR-CD+"), "-o", str(out)], out
    if name == "synapse":
        training = work / "RawData" / "Training"
        for part, number in (("train", 5), ("val", 8)):
            (training / f"{part}.txt").write_text(f"img{number:04}.nii.gz\n")
        return ["--dataset-path", str(training), "--save-path", str(out)], out
    if name == "cityscapes":
        return [str(work)], work
    if name == "coco_stuff10k":
        return [str(work), "-o", str(out), "--nproc", "1"], out
    if name == "voc_aug":
        return [str(work / "VOCdevkit"), str(work / "benchmark_RELEASE")], work / "VOCdevkit" / "VOC2012"
    if name == "pascal_context":
        return [str(work / "VOCdevkit"), str(made / "trainval_merged.json")], work / "VOCdevkit" / "VOC2010"
    raise ValueError(name)


def run(name: str, made: Path, work: Path) -> dict[str, str]:
    """Runs one of the reference's converters; the sums of what it makes."""
    words, out = arguments(name, made, work)
    spec = importlib.util.spec_from_file_location(f"reference_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with mock.patch.object(sys, "argv", [name, *words]):
        spec.loader.exec_module(module)
        for constant, value in (("COCO_LEN", 3 if name == "coco_stuff10k" else 2), ("AUG_LEN", 4)):
            if hasattr(module, constant):
                setattr(module, constant, value)
        if hasattr(module, "parse_args"):
            module.args = module.parse_args()  # one of them takes it from there
        module.main()
    found = {
        path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.suffix in (".png", ".jpg", ".txt")
    }
    kept = {}
    for path, file in sorted(found.items()):
        if not path.startswith(BESIDES) and not path.endswith(
            ("labelIds.png", "gtFine_labelTrainIds.png", "license.txt")
        ):
            kept[path] = pixel_sum(file)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("made", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    sys.modules["detail"] = types.SimpleNamespace(Detail=Detail)
    blocks = {}
    for made in sorted(args.made.resolve().iterdir()):
        with tempfile.TemporaryDirectory() as work:
            blocks[made.name] = run(made.name, made, Path(work))
    lines = [
        f'"{name}": {{\n'
        + ",\n".join(f"{json.dumps(path)}: {json.dumps(value)}" for path, value in files.items())
        + "\n}"
        for name, files in blocks.items()
    ]
    args.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
