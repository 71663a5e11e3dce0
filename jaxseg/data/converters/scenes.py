"""Streets, rooms and everyday photographs, whose annotations come as polygons, .mat files, JSON or other numbers."""

import functools
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.io
from PIL import Image, ImageDraw

from jaxseg.data.classes import CLASSES
from jaxseg.data.converters.archives import Files
from jaxseg.data.converters.contents import Labels, looked_up, table
from jaxseg.data.converters.core import Converter
from jaxseg.data.converters.jobs import Job, text_job
from jaxseg.errors import DataError, did_you_mean

_IGNORED = 255
# The classes of the benchmark; those of the other names are ignored.
_CITYSCAPES = {name: label for label, name in enumerate(CLASSES["Cityscapes"])} | dict.fromkeys(
    (
        *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking"),
        *("rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer"),
    ),
    _IGNORED,
)
_NOT_DRAWN = "license plate"  # what is behind it counts


def _cityscapes(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    names = defaultdict(list)
    for file, match in files.find(r"(gtFine|gtCoarse)/(\w+)/([^/]+)/([^/]+)_polygons\.json"):
        kind, split, city, stem = match.groups()
        yield Job(file, f"{kind}/{split}/{city}/{stem}_labelTrainIds.png", polygons)
        if kind == "gtFine":
            names[split].append(f"{city}/{stem.removesuffix('_gtFine')}")
    for file, match in files.find(r"(leftImg8bit/\w+/[^/]+/[^/]+_leftImg8bit\.png)"):
        yield Job(file, match[1])
    for split, stems in names.items():
        yield text_job(f"{split}.txt", sorted(stems))


def polygons(content: bytes, name: str) -> Labels:
    """Draws the polygons of a file of Cityscapes, one over the other, as class indices.

    Raises:
        DataError: damaged, or an object of an unknown name.
    """
    try:
        scene = json.loads(content)
        picture = Image.new("L", (int(scene["imgWidth"]), int(scene["imgHeight"])), _IGNORED)
        drawer = ImageDraw.Draw(picture)
        for thing in scene["objects"]:
            label = thing["label"]
            if thing.get("deleted"):
                continue
            if label not in _CITYSCAPES:
                label = label.removesuffix("group")
            if label == _NOT_DRAWN:
                continue
            if label not in _CITYSCAPES:
                raise DataError(f"{name} has an object {label!r}. {did_you_mean(label, _CITYSCAPES)}")
            drawer.polygon([tuple(point) for point in thing["polygon"]], fill=_CITYSCAPES[label])
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{name} is damaged, or no file of polygons: {error!r}.") from error
    return np.array(picture)


def _without(removed: Iterable[int], classes: Iterable[int]) -> Labels:
    """A table that closes the gaps that removed numbers leave; other numbers stay."""
    return table({number: number - sum(gap < number for gap in removed) for number in classes if number not in removed})


_GAPS_10K = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # numbers that stand for no class; 0 is unlabeled
_COCO_10K = _without(_GAPS_10K, range(183))
_COCO_164K = _without([gap - 1 for gap in _GAPS_10K], range(182))


def _coco_stuff10k(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    splits = {}
    for part in ("train", "test"):
        names, _ = files.one(rf"imageLists/{part}\.txt", f"imageLists/{part}.txt")
        splits |= dict.fromkeys(names.words(), f"{part}2014")
    for file, match in files.find(r"([^/]+)\.(jpg|mat)"):
        split = splits.get(match[1])
        if split is None:
            continue
        if match[2] == "mat":
            yield Job(file, f"annotations/{split}/{match[1]}_labelTrainIds.png", _stuff_mat)
        else:
            yield Job(file, f"images/{split}/{match[1]}.jpg")


def _coco_stuff164k(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for file, match in files.find(r"(train2017|val2017)/(\d+)\.(jpg|png)"):
        if match[3] == "jpg":
            yield Job(file, f"images/{match[1]}/{match[2]}.jpg")
        else:
            how = functools.partial(looked_up, table=_COCO_164K)
            yield Job(file, f"annotations/{match[1]}/{match[2]}_labelTrainIds.png", how)


def _mat(content: bytes, name: str, variable: str) -> np.ndarray:
    try:
        return scipy.io.loadmat(io.BytesIO(content), variable_names=[variable])[variable]
    except Exception as error:  # of many kinds; the file is damaged, or another one
        raise DataError(f"{name} is damaged, or a .mat file without {variable!r}: {error!r}.") from error


def _stuff_mat(content: bytes, name: str) -> Labels:
    return _COCO_10K[_mat(content, name, "S").astype(np.uint8)]


def _boundaries_mat(content: bytes, name: str) -> Labels:
    return _mat(content, name, "GTcls")[0]["Segmentation"][0].astype(np.uint8)


def _voc_aug(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    lists = {}
    for part in ("train", "val"):
        for pattern in (rf"VOC2012/ImageSets/Segmentation/{part}\.txt", rf"dataset/{part}\.txt"):
            file, _ = files.one(pattern, pattern.replace("\\", ""))
            lists[pattern.split("/")[0], part] = set(file.words())
    own, val = lists["VOC2012", "train"], lists["VOC2012", "val"]
    both = lists["dataset", "train"] | lists["dataset", "val"]
    masks = set()
    for file, match in files.find(r"dataset/cls/([^/]+)\.mat"):
        yield Job(file, f"SegmentationClassAug/{match[1]}.png", _boundaries_mat)
        masks.add(match[1])
    for file, match in files.find(
        r"VOC2012/(JPEGImages/[^/]+\.jpg|SegmentationClass/[^/]+\.png|ImageSets/Segmentation/(?:train|val|trainval)\.txt)"
    ):
        yield Job(file, match[1])
    names = {"trainaug": (own | both) - val, "aug": both - own - val}
    lacking = sorted(names["aug"] - masks)
    if lacking:
        raise DataError(f"dataset/cls lacks {len(lacking)} masks that the lists name, such as {lacking[0]}.mat.")
    for name, stems in names.items():
        yield text_job(f"ImageSets/Segmentation/{name}.txt", sorted(stems))


# The 59 most frequent of the numbers that Pascal Context's annotations have, and 0.
_CONTEXT = np.array([
    0, 2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
])  # fmt: skip


def _pascal_context(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    file, _ = files.one(r"trainval_merged\.json", "trainval_merged.json")
    try:
        merged = json.loads(file.read())
        regions: dict[int, list[tuple[int, Any]]] = defaultdict(list)
        for region in merged["annos_segmentation"]:
            regions[region["image_id"]].append((region["category_id"], region["segmentation"]))
        names = defaultdict(list)
        for image in merged["images"]:
            stem = image["file_name"].rpartition(".")[0]
            names[image["phase"]].append(stem)
            if image["phase"] in ("train", "val"):
                size = (int(image["height"]), int(image["width"]))
                how = functools.partial(regions_drawn, regions=regions[image["image_id"]], size=size)
                yield Job(None, f"SegmentationClassContext/{stem}.png", how)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file.path} is damaged, or no such file of Pascal in Detail: {error!r}.") from error
    wanted = {*names["train"], *names["val"]}
    for file, match in files.find(r"VOC2010/JPEGImages/([^/]+)\.jpg"):
        if match[1] in wanted:
            yield Job(file, f"JPEGImages/{match[1]}.jpg")
    for split in ("train", "val"):
        yield text_job(f"ImageSets/SegmentationContext/{split}.txt", sorted(names[split]))


def regions_drawn(
    content: bytes, name: str, *, regions: Iterable[tuple[int, Mapping[str, Any]]], size: tuple[int, int]
) -> Labels:
    """A label map of regions, one over the other, of run lengths as COCO has them.

    Raises:
        DataError: a damaged region, or one of a category that is none of `_CONTEXT`.
    """
    numbers = np.zeros(size, np.int64)
    for category, region in regions:
        if category not in _CONTEXT:
            raise DataError(f"{name}: {category} is none of the 59 categories.")
        numbers[run_lengths(region, name, size)] = category
    return np.searchsorted(_CONTEXT, numbers).astype(np.uint8)


def run_lengths(region: Mapping[str, Any], name: str, size: tuple[int, int]) -> np.ndarray:
    """A region of COCO's run lengths, packed or plain, as a mask (bool [h w]).

    Runs go down the columns, outside and inside by turns. Packed, each is six bits a character from "0" on: five of
    the number, lowest first, and whether more follow; from the fourth on it is the difference from the one before
    the last.

    Raises:
        DataError: they don't fill the size.
    """
    counts = region["counts"]
    if isinstance(counts, str):
        bits = np.frombuffer(counts.encode("latin-1"), np.uint8).astype(np.int64) - ord("0")
        ends = np.flatnonzero(~bits & 32)
        starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64)
        if len(ends) and len(bits):
            bits = bits[: ends[-1] + 1]
            places = np.arange(len(bits)) - np.repeat(starts, ends - starts + 1)
            runs = np.add.reduceat((bits & 31) << (5 * places), starts)
            runs -= np.where(bits[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)  # the highest bit is a sign
            runs[1::2] = np.cumsum(runs[1::2])
            runs[2::2] = np.cumsum(runs[2::2])
        else:
            runs = np.zeros(0, np.int64)
    else:
        runs = np.array(counts, np.int64)
    if tuple(region["size"]) != size or runs.sum() != size[0] * size[1] or (runs < 0).any():
        raise DataError(f"{name}: a region of {runs.sum()} pixels does not fill {size[1]}x{size[0]}.")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size, order="F")


def _nyu(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for part in ("train", "test"):
        names, _ = files.one(rf"nyu_{part}\.txt", f"nyu_{part}.txt")
        top = names.path.removesuffix(names.name)
        here = {file.path.removeprefix(top): file for file in files if file.path.startswith(top)}
        for line in names.read().decode(errors="replace").splitlines():
            if not line.strip():
                continue
            pair = [name.strip("/") for name in line.split()[:2]]
            if len(pair) < 2:
                raise DataError(f"{names.path}: {line!r} does not name an image and its depths.")
            for name, folder, middle in zip(pair, ("images", "annotations"), ("/rgb", "/sync_depth"), strict=True):
                if name not in here:
                    raise DataError(f"{names.path} names {name}, which is not there. {did_you_mean(name, here)}")
                yield Job(here[name], f"{folder}/{part}/{name.replace(middle, '')}")


CONVERTERS = {
    "cityscapes": Converter(
        dataset="Cityscapes",
        title="Cityscapes: streets of 50 cities (Cordts et al., 2016)",
        download="leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip (or gtCoarse.zip), from "
        "www.cityscapes-dataset.com after registration. Extracted they are read too, and masks are made beside them.",
        example=("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"),
        out="data/cityscapes",
        layout="leftImg8bit/{train,val,test}, gtFine/{train,val,test}, a folder a city; train.txt, val.txt, test.txt",
        plan=_cityscapes,
        counts={
            f"{kind}/{part}": count
            for part, count in (("train", 2975), ("val", 500))
            for kind in ("leftImg8bit", "gtFine")
        },
        marker="gtFine",
    ),
    "coco_stuff10k": Converter(
        dataset="COCOStuff10k",
        title="COCO-Stuff 10k: things and stuff (Caesar et al., 2018)",
        download="cocostuff-10k-v1.1.zip, from the page of COCO-Stuff.",
        example=("cocostuff-10k-v1.1.zip",),
        out="data/coco_stuff10k",
        layout="images/{train2014,test2014}, annotations/{train2014,test2014}",
        plan=_coco_stuff10k,
        counts={
            f"{kind}/{part}": count
            for part, count in (("train2014", 9000), ("test2014", 1000))
            for kind in ("images", "annotations")
        },
        marker="imageLists",
    ),
    "coco_stuff164k": Converter(
        dataset="COCOStuff164k",
        title="COCO-Stuff 164k: things and stuff (Caesar et al., 2018)",
        download="train2017.zip and val2017.zip, from the page of COCO, and stuffthingmaps_trainval2017.zip, from that "
        "of COCO-Stuff.",
        example=("train2017.zip", "val2017.zip", "stuffthingmaps_trainval2017.zip"),
        out="data/coco_stuff164k",
        layout="images/{train2017,val2017}, annotations/{train2017,val2017}",
        plan=_coco_stuff164k,
        counts={
            f"{kind}/{part}": count
            for part, count in (("train2017", 118287), ("val2017", 5000))
            for kind in ("images", "annotations")
        },
        marker="annotations",
    ),
    "nyu": Converter(
        dataset="NYU",
        title="NYU Depth v2: rooms and their depth (Silberman et al., 2012), as BTS (Lee et al., 2019) splits it",
        download="nyu.zip: the images and depths of BTS with its lists nyu_train.txt and nyu_test.txt, or a folder of "
        "these.",
        example=("nyu.zip",),
        out="data/nyu",
        layout="images/{train,test}, annotations/{train,test} (16 bits, millimetres)",
        plan=_nyu,
    ),
    "pascal_context": Converter(
        dataset="PascalContext",
        title="Pascal Context: 59 classes of VOC 2010's photographs (Mottaghi et al., 2014)",
        download="VOCtrainval_03-May-2010.tar, from the page of Pascal VOC 2010, and trainval_merged.json, from that "
        "of Pascal in Detail.",
        example=("VOCtrainval_03-May-2010.tar", "trainval_merged.json"),
        out="data/VOCdevkit/VOC2010",
        layout="JPEGImages, SegmentationClassContext, ImageSets/SegmentationContext/{train,val}.txt",
        plan=_pascal_context,
        counts={"SegmentationClassContext": 10103, "JPEGImages": 10103},
        marker="JPEGImages",
    ),
    "voc_aug": Converter(
        dataset="PascalVOC12Aug",
        title="Pascal VOC 2012 with the Semantic Boundaries Dataset (Everingham et al., 2015; Hariharan et al., 2011)",
        download="VOCtrainval_11-May-2012.tar, from the page of Pascal VOC 2012, and benchmark.tgz, from that of the "
        "Semantic Boundaries Dataset.",
        example=("VOCtrainval_11-May-2012.tar", "benchmark.tgz"),
        out="data/VOCdevkit/VOC2012",
        layout="JPEGImages, SegmentationClass, SegmentationClassAug, "
        "ImageSets/Segmentation/{train,val,trainaug,aug}.txt",
        plan=_voc_aug,
        counts={"JPEGImages": 17125, "SegmentationClass": 2913, "SegmentationClassAug": 11355},
        marker="ImageSets/Segmentation",
    ),
}
