"""Photographs of the retina and volumes of the abdomen."""

import functools
import re
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

from jaxseg.data.converters import volumes
from jaxseg.data.converters.archives import Files
from jaxseg.data.converters.contents import binary, blue_looked_up, gif_binary, gzipped, photo, table
from jaxseg.data.converters.core import Converter
from jaxseg.data.converters.jobs import Job

_PARTS = ("training", "validation")
_LAYOUT = "images/{training,validation}, annotations/{training,validation}"
_CHASE_TRAINING = 10  # of 14 children, both eyes of each
_HRF_TRAINING = 5  # of 15 of each kind: healthy, glaucoma, diabetic retinopathy
_STARE_TRAINING = tuple(f"im{number:04}" for number in (1, 2, 3, 4, 5, 44, 77, 81, 82, 139))
_STARE_VALIDATION = tuple(f"im{number:04}" for number in (162, 163, 235, 236, 239, 240, 255, 291, 319, 324))
# Stored in REFUGE's masks: cup, disc, the rest.
_REFUGE_LABELS = table({0: 1, 128: 2, 255: 0})


def _part(training: bool) -> str:
    return _PARTS[not training]


def _chase(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for file, match in files.find(r"(Image_(\d\d)[LR](_(?:1st|2nd)HO)?)\.(?:jpg|png)"):
        part = _part(int(match[2]) <= _CHASE_TRAINING)
        if match[3]:
            yield Job(file, f"annotations/{part}/{match[1]}.png", binary)
        else:
            yield Job(file, f"images/{part}/{match[1]}.png", photo)


def _chase_names() -> Iterator[str]:
    for child in range(1, 15):
        part = _part(child <= _CHASE_TRAINING)
        for name in (f"Image_{child:02}L", f"Image_{child:02}R"):
            yield f"images/{part}/{name}.png"
            yield from (f"annotations/{part}/{name}_{expert}HO.png" for expert in ("1st", "2nd"))


def _drive(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for file, match in files.find(r"(\d\d)_(training|test)\.tif"):
        yield Job(file, f"images/{_part(match[2] == 'training')}/{match[1]}.png", photo)
    for file, match in files.find(r"(training|test)/[^/]+/(\d\d_manual[12])\.gif"):
        yield Job(file, f"annotations/{_part(match[1] == 'training')}/{match[2]}.png", gif_binary)


def _drive_names() -> Iterator[str]:
    # The masks of the test part have not always been in the archive.
    for number in range(1, 41):
        yield f"images/{_part(number > 20)}/{number:02}.png"
    for number in range(21, 41):
        yield f"annotations/training/{number}_manual1.png"


def _hrf(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for file, match in files.find(r"((\d\d)_(?:h|g|dr))\.(?i:(jpe?g)|tif)"):
        part = _part(int(match[2]) <= _HRF_TRAINING)
        folder, how = ("images", photo) if match[3] else ("annotations", binary)
        yield Job(file, f"{folder}/{part}/{match[1]}.png", how)


def _hrf_names() -> Iterator[str]:
    for kind in ("h", "g", "dr"):
        for number in range(1, 16):
            for folder in ("images", "annotations"):
                yield f"{folder}/{_part(number <= _HRF_TRAINING)}/{number:02}_{kind}.png"


def _stare(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for file, match in files.find(r"(im\d{4})(\.ah|\.vk)?\.ppm(\.gz)?"):
        if match[1] not in (*_STARE_TRAINING, *_STARE_VALIDATION):
            continue  # the whole collection has 400 photos, of which 20 have masks
        folder, how = ("annotations", binary) if match[2] else ("images", photo)
        if match[3]:
            how = functools.partial(gzipped, how=how)
        yield Job(file, f"{folder}/{_part(match[1] in _STARE_TRAINING)}/{match[1]}{match[2] or ''}.png", how)


def _stare_names() -> Iterator[str]:
    for part, names in zip(_PARTS, (_STARE_TRAINING, _STARE_VALIDATION), strict=True):
        for name in names:
            yield f"images/{part}/{name}.png"
            yield from (f"annotations/{part}/{name}{expert}.png" for expert in (".ah", ".vk"))


def _refuge(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    masks = functools.partial(blue_looked_up, table=_REFUGE_LABELS)
    above = {
        "/".join(folders[:depth])
        for file in files
        if (folders := file.path.split("/")[:-1])
        for depth in range(len(folders))
    }
    for file, match in files.find(r"([^/]+)\.(?:jpg|bmp)"):
        folder = file.path.rpartition("/")[0]
        if folder in above or "Illustration" in folder:  # the data are in the innermost folders
            continue
        # Archives have names such as REFUGE-Validation400-GT.zip; the folders in them need not.
        named = [name for name in folder.split("/") if _REFUGE_PARTS.search(name)]
        if not named:
            continue
        archive = next((name for name in named if name.endswith(".zip")), named[0])
        part = _REFUGE_PARTS.search(archive)[0].lower()
        if re.search("Anno|GT", archive):
            yield Job(file, f"annotations/{part}/{match[1]}.png", masks)
        else:
            yield Job(file, f"images/{part}/{match[1]}.png", photo)


_REFUGE_PARTS = re.compile("(?i:training|validation|test)")
_SYNAPSE_TRAIN = (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)
_SYNAPSE_VAL = (8, 22, 38, 36, 32, 2, 29, 3, 1, 4, 25, 35)


def _synapse(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    cases = {f"{number:04}": "train" for number in _SYNAPSE_TRAIN} | {f"{number:04}": "val" for number in _SYNAPSE_VAL}
    lists = {part: next(iter(files.find(rf"{part}\.txt")), None) for part in ("train", "val")}
    if all(lists.values()):
        cases = {
            number: part
            for part, (file, _) in lists.items()
            for number in re.findall(r"(\d{4})\.nii", file.read().decode(errors="replace"))
        }
    for file, match in files.find(r"(img|label)(\d{4})\.nii(?:\.gz)?"):
        part = cases.get(match[2])
        if part is None:
            continue
        folder, how = ("img_dir", volumes.photos) if match[1] == "img" else ("ann_dir", volumes.masks)
        begin = f"{folder}/{part}/case{match[2]}"
        yield Job(file, begin, functools.partial(how, begin=begin), several=True)


def _synapse_names() -> Iterable[str]:
    for part, numbers in (("train", _SYNAPSE_TRAIN), ("val", _SYNAPSE_VAL)):
        for folder in ("img_dir", "ann_dir"):
            yield from (f"{folder}/{part}/case{number:04}" for number in numbers)


CONVERTERS = {
    "chase_db1": Converter(
        dataset="ChaseDB1",
        title="CHASE_DB1: retinal vessels of 14 children, two experts (Fraz et al., 2012)",
        download="CHASEDB1.zip, from Kingston University's page of the CHASE_DB1 database.",
        example=("CHASEDB1.zip",),
        out="data/CHASE_DB1",
        layout=_LAYOUT,
        plan=_chase,
        expected=tuple(_chase_names()),
    ),
    "drive": Converter(
        dataset="DRIVE",
        title="DRIVE: retinal vessels (Staal et al., 2004)",
        download="training.zip and test.zip, from drive.grand-challenge.org after registration. Where test.zip has no "
        "folder 1st_manual, there are no masks to validate on.",
        example=("training.zip", "test.zip"),
        out="data/DRIVE",
        layout=_LAYOUT,
        plan=_drive,
        expected=tuple(_drive_names()),
    ),
    "hrf": Converter(
        dataset="HRF",
        title="HRF: retinal vessels in high resolution (Budai et al., 2013)",
        download="healthy.zip, glaucoma.zip, diabetic_retinopathy.zip and of each ..._manualsegm.zip, from the page of "
        "the High-Resolution Fundus Image Database of the university of Erlangen (FAU).",
        example=(
            "healthy.zip",
            "healthy_manualsegm.zip",
            "glaucoma.zip",
            "glaucoma_manualsegm.zip",
            "diabetic_retinopathy.zip",
            "diabetic_retinopathy_manualsegm.zip",
        ),
        out="data/HRF",
        layout=_LAYOUT,
        plan=_hrf,
        expected=tuple(_hrf_names()),
    ),
    "refuge": Converter(
        dataset="REFUGE",
        title="REFUGE: optic disc and cup (Orlando et al., 2020)",
        download="REFUGE2.zip, from refuge.grand-challenge.org after registration. Extract it; in it are "
        "REFUGE-Training400.zip, Annotation-Training400.zip, REFUGE-Validation400.zip, "
        "REFUGE-Validation400-GT.zip, REFUGE-Test400.zip and REFUGE-Test-GT.zip. Give their folder.",
        example=("REFUGE2",),
        out="data/REFUGE",
        layout="images/{training,validation,test}, annotations/{training,validation,test}",
        plan=_refuge,
        counts={f"{kind}/{part}": 400 for part in (*_PARTS, "test") for kind in ("images", "annotations")},
    ),
    "stare": Converter(
        dataset="STARE",
        title="STARE: retinal vessels, two experts (Hoover et al., 2000)",
        download="stare-images.tar, labels-ah.tar and labels-vk.tar, from the STARE project's page on probing "
        "(Clemson University).",
        example=("stare-images.tar", "labels-ah.tar", "labels-vk.tar"),
        out="data/STARE",
        layout=_LAYOUT,
        plan=_stare,
        expected=tuple(_stare_names()),
    ),
    "synapse": Converter(
        dataset="Synapse",
        title="Synapse: organs of the abdomen in computed tomography (Landman et al., 2015), as TransUNet splits it",
        download="RawData.zip, from the Abdomen part of 'Multi-Atlas Labeling Beyond the Cranial Vault' at synapse.org "
        "(syn3193805) after registration. A train.txt and a val.txt beside the folders, one img0001.nii.gz a line, "
        "split it otherwise.",
        example=("RawData.zip",),
        out="data/synapse",
        layout="img_dir/{train,val}, ann_dir/{train,val}, a file for each slice",
        plan=_synapse,
        expected=tuple(_synapse_names()),
    ),
}
