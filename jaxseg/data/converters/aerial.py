"""Images of the earth from above: large ones, cut into tiles."""

import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np

from jaxseg.data.classes import CLASSES
from jaxseg.data.converters.archives import File, Files
from jaxseg.data.converters.contents import Labels, Window, color_labels, photo, tiles
from jaxseg.data.converters.core import Converter, Option
from jaxseg.data.converters.jobs import Job
from jaxseg.data.transforms.loading import decode_image
from jaxseg.errors import DataError

# Stored numbers: 0 is ignored (the boundaries of objects), the classes count from 1.
_ISPRS_COLORS = {
    (0, 0, 0): 0,
    (255, 255, 255): 1,  # impervious surface
    (0, 0, 255): 2,  # building
    (0, 255, 255): 3,  # low vegetation
    (0, 255, 0): 4,  # tree
    (255, 255, 0): 5,  # car
    (255, 0, 0): 6,  # clutter
}
_ISAID_COLORS = {tuple(color.to_bytes(3)): label for label, color in enumerate(CLASSES["iSAID"].values())}
_LAYOUT = "img_dir/{train,val}, ann_dir/{train,val}"
_TILES = (
    Option("clip_size", 512, "width and height of a tile"),
    Option("stride_size", None, "distance of tiles; default: their size, so that they touch"),
)

_POTSDAM = {
    "train": (
        *("2_10", "2_11", "2_12", "3_10", "3_11", "3_12", "4_10", "4_11", "4_12", "5_10", "5_11", "5_12"),
        *("6_7", "6_8", "6_9", "6_10", "6_11", "6_12", "7_7", "7_8", "7_9", "7_10", "7_11", "7_12"),
    ),
    "val": (
        *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"),
        *("5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"),
    ),
}
_VAIHINGEN = {
    "train": tuple(f"area{n}" for n in (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37)),
    "val": tuple(f"area{n}" for n in (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)),
}


def _cut(
    file: File, folder: str, stem: str, options: SimpleNamespace, decode: Callable[[bytes, str], np.ndarray] = photo
) -> Job:
    """A job that cuts a file into square tiles, named by their corners."""
    stride = options.stride_size or options.clip_size
    how = functools.partial(
        tiles,
        decode=decode,
        size=(options.clip_size, options.clip_size),
        stride=(stride, stride),
        path=functools.partial(_corners, begin=f"{folder}/{stem}"),
    )
    return Job(file, f"{folder}/{stem}", how, several=True)


def _corners(window: Window, *, begin: str, end: str = ".png") -> str:
    return "_".join((begin, *map(str, window))) + end


def _part(splits: dict[str, tuple[str, ...]], stem: str) -> str | None:
    return next((part for part, stems in splits.items() if stem in stems), None)


_isprs_labels = functools.partial(color_labels, colors=_ISPRS_COLORS)


def _potsdam(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for file, match in files.find(r"top_potsdam_(\d+_\d+)_(RGB|label(?:_noBoundary)?)\.tif"):
        part = _part(_POTSDAM, match[1])
        if part is None:
            continue
        if match[2] == "RGB":
            yield _cut(file, f"img_dir/{part}", match[1], options)
        else:
            yield _cut(file, f"ann_dir/{part}", match[1], options, _isprs_labels)


def _vaihingen(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    # The archive of the images holds masks with boundaries too, of the training areas, in a folder of their own.
    for file, match in files.find(r"([^/]+)/top_mosaic_09cm_(area\d+)(_noBoundary)?\.tif"):
        part = _part(_VAIHINGEN, match[2])
        if part is None:
            continue
        if match[3]:
            yield _cut(file, f"ann_dir/{part}", match[2], options, _isprs_labels)
        elif match[1] == "top":
            yield _cut(file, f"img_dir/{part}", match[2], options)


def _tile_names(splits: dict[str, tuple[str, ...]]) -> Iterator[str]:
    for part, stems in splits.items():
        yield from (f"{folder}/{part}/{stem}" for stem in stems for folder in ("img_dir", "ann_dir"))


def _loveda(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for file, match in files.find(r"(Train|Val|Test)/(?:Rural|Urban)/(images|masks)_png/(\d+\.png)"):
        folder = "img_dir" if match[2] == "images" else "ann_dir"
        yield Job(file, f"{folder}/{match[1].lower()}/{match[3]}")


def _isaid(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    size = (options.patch_height, options.patch_width)
    stride = tuple(side - options.overlap_area for side in size)
    if min(stride) < 1:
        raise DataError(f"overlap_area is {options.overlap_area}; it must be less than the tiles' sides {size}.")
    cut = functools.partial(tiles, size=size, stride=stride)
    for file, match in files.find(r"(train|val|test)/(?:.*/)?(P\d+)(_instance_color_RGB)?\.png"):
        if match[3]:
            begin, ending = f"ann_dir/{match[1]}/{match[2]}", "_instance_color_RGB.png"
            path = functools.partial(_rows_first, begin=begin, end=ending)
            yield Job(file, begin, functools.partial(cut, decode=_isaid_labels, pad=255, path=path), several=True)
        elif match[1] == "test":  # to predict on whole
            yield Job(file, f"img_dir/test/{match[2]}.png")
        else:
            begin = f"img_dir/{match[1]}/{match[2]}"
            path = functools.partial(_rows_first, begin=begin, end=".png")
            yield Job(file, begin, functools.partial(cut, decode=photo, pad=0, path=path), several=True)


_isaid_labels = functools.partial(color_labels, colors=_ISAID_COLORS)


def _rows_first(window: Window, *, begin: str, end: str) -> str:
    left, top, right, bottom = window
    return f"{begin}_{top}_{bottom}_{left}_{right}{end}"


def _levircd(files: Files, options: SimpleNamespace) -> Iterator[Job]:
    for file, match in files.find(r"(train|val|test)(?:\.zip)?/(?:.*/)?(A|B|label)/([^/]+)\.png"):
        decode = _change if match[2] == "label" else photo
        yield _cut(file, f"{match[1]}/{match[2]}", match[3].split(".")[0], options, decode)


def _change(content: bytes, name: str) -> Labels:
    """A mask of changes, stored as 0 and 255, as 0 and 1."""
    mask = decode_image(content, name)[:, :, 2].copy()
    mask[mask == 255] = 1
    return mask


CONVERTERS = {
    "isaid": Converter(
        dataset="iSAID",
        title="iSAID: objects in aerial images (Waqas Zamir et al., 2019)",
        download="The images of DOTA-v1.0 (train, val, test: part1.zip, ...) and the semantic masks of iSAID (train, "
        "val: images.zip), from the two data sets' pages. Put them into train/images, train/Semantic_masks, "
        "val/images, val/Semantic_masks and test/images, and give the folder above.",
        example=("iSAID",),
        out="data/iSAID",
        layout="img_dir/{train,val,test}, ann_dir/{train,val}",
        plan=_isaid,
        options=(
            Option("patch_width", 896, "width of a tile"),
            Option("patch_height", 896, "height of a tile"),
            Option("overlap_area", 384, "how much neighbouring tiles share"),
        ),
        counts={
            f"{kind}/{part}": count
            for part, count in (("train", 1411), ("val", 458))
            for kind in ("img_dir", "ann_dir")
        },
    ),
    "levircd": Converter(
        dataset="LEVIRCD",
        title="LEVIR-CD: changes of buildings between two dates (Chen and Shi, 2020)",
        download="LEVIR-CD+.zip (train, test), from the page of the S2Looking data set, or train.zip, val.zip and "
        "test.zip of LEVIR-CD, from its page.",
        example=("LEVIR-CD+.zip",),
        out="data/LEVIRCD",
        layout="{train,val,test}/{A,B,label}",
        plan=_levircd,
        together=tuple(tuple(f"{part}/{kind}" for kind in ("A", "B", "label")) for part in ("train", "val", "test")),
        options=(Option("clip_size", 256, _TILES[0].usage), _TILES[1]),
    ),
    "loveda": Converter(
        dataset="LoveDA",
        title="LoveDA: land cover, rural and urban (Wang et al., 2021)",
        download="Train.zip, Val.zip and Test.zip, from Zenodo (record 5706578). Test.zip has no masks.",
        example=("Train.zip", "Val.zip", "Test.zip"),
        out="data/loveDA",
        layout="img_dir/{train,val,test}, ann_dir/{train,val}",
        plan=_loveda,
        counts={
            **{f"img_dir/{part}": count for part, count in (("train", 2522), ("val", 1669), ("test", 1796))},
            **{f"ann_dir/{part}": count for part, count in (("train", 2522), ("val", 1669))},
        },
    ),
    "potsdam": Converter(
        dataset="Potsdam",
        title="ISPRS Potsdam: a town from above, 5 cm a pixel (Rottensteiner et al., 2012)",
        download="2_Ortho_RGB.zip and 5_Labels_all_noBoundary.zip, from the page of the ISPRS 2D semantic labelling "
        "benchmark.",
        example=("2_Ortho_RGB.zip", "5_Labels_all_noBoundary.zip"),
        out="data/potsdam",
        layout=_LAYOUT,
        plan=_potsdam,
        options=_TILES,
        expected=tuple(_tile_names(_POTSDAM)),
    ),
    "vaihingen": Converter(
        dataset="Vaihingen",
        title="ISPRS Vaihingen: a town from above, 9 cm a pixel, near infrared, red, green (Cramer, 2010)",
        download="ISPRS_semantic_labeling_Vaihingen.zip and "
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip, from the page of the ISPRS 2D semantic "
        "labelling benchmark.",
        example=(
            "ISPRS_semantic_labeling_Vaihingen.zip",
            "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip",
        ),
        out="data/vaihingen",
        layout=_LAYOUT,
        plan=_vaihingen,
        options=_TILES,
        expected=tuple(_tile_names(_VAIHINGEN)),
    ),
}
