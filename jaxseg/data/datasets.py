"""The data sets jaxseg knows: names, colours, and where their files lie. A table, nothing else.

Folders, suffixes and the meaning of stored numbers are MMSegmentation's, so that data prepared for it (its
`dataset_converters` write the masks of most of these) is found as it lies.
"""

from dataclasses import dataclass, field
from typing import Any

from jaxseg.data.classes import CLASSES, NYU_SCENES

Color = tuple[int, int, int]


@dataclass(frozen=True)
class DatasetInfo:
    """One data set.

    Attributes:
        classes: class names; the index in this tuple is the label. Empty: the config must give them.
        palette: an (r, g, b) in 0..255 for each class. Empty: colours are made up.
        image_dir: folder of the images below the root; `{split}` is filled in.
        label_dir: folder of the masks below the root; an empty string means there are none.
        label_dirs: the folder of the masks of those splits that have one of their own.
        image_dir2: folder of the second images below the root, of a later date; an empty string means there are none.
        image_suffix: how the names of images end, any of these.
        image_suffix2: how the names of second images end; none: as the first ones.
        label_suffix: how the names of masks end; a mask has its image's path but for the suffix.
        splits: what the folders call the parts "train", "val" and "test", where they call them otherwise; of
            several names the records follow one another.
        split_file: text file of the names of a split's records, below the root; `{split}` is filled in. Empty:
            all that is in the folder.
        reduce_zero_label: stored 0 is ignored, every other stored number counts one less.
        ignore_index: the label that neither loss nor metrics count.
        label_map: stored number (after `reduce_zero_label`) -> class index or `ignore_index`.
        kind: how records are found: "folder" as above; "volumes", what a dataset.json lists; "records", examples in
            array_record files; "demo", drawn by a function of jaxseg instead of read from files.
        depth: masks hold distances; then the classes are kinds of scenes, which names of files begin with.
        image_key: the name of the image in an example of "records".
        label_key: the same of the mask; empty: the first of `LABEL_KEYS` that there is.
    """

    classes: tuple[str, ...] = ()
    palette: tuple[Color, ...] = ()
    image_dir: str = "images/{split}"
    label_dir: str = "annotations/{split}"
    label_dirs: dict[str, str] = field(default_factory=dict)
    image_dir2: str = ""
    image_suffix: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".npy")
    image_suffix2: tuple[str, ...] = ()
    label_suffix: tuple[str, ...] = (".png",)
    splits: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    split_file: str = ""
    reduce_zero_label: bool = False
    ignore_index: int = 255
    label_map: dict[int, int] = field(default_factory=dict)
    kind: str = "folder"
    depth: bool = False
    image_key: str = "image"
    label_key: str = ""


def _row(
    classes: str, image_suffix: str | tuple[str, ...], label_suffix: str = ".png", without: str = "", **fields: Any
) -> DatasetInfo:
    """A row with the names and colours of `CLASSES[classes]`, but for the class `without`."""
    colors = {name: color for name, color in CLASSES[classes].items() if name != without}
    return DatasetInfo(
        classes=tuple(colors),
        palette=tuple(tuple(color.to_bytes(3)) for color in colors.values()),
        image_suffix=(image_suffix,) if isinstance(image_suffix, str) else image_suffix,
        label_suffix=(label_suffix,),
        **fields,
    )


_MASKS = (".png", ".gif", ".tif", ".tiff", ".bmp", ".npy")
_LONG_NAMES = {"train": "training", "val": "validation"}
_TILES = {"image_dir": "img_dir/{split}", "label_dir": "ann_dir/{split}"}
_CONTEXT = {
    "image_dir": "JPEGImages",
    "label_dir": "SegmentationClassContext",
    "split_file": "ImageSets/SegmentationContext/{split}.txt",
}
_VOC = {
    "image_dir": "JPEGImages",
    "label_dir": "SegmentationClass",
    "split_file": "ImageSets/Segmentation/{split}.txt",
}

DATASETS: dict[str, DatasetInfo] = {
    "ADE20K": _row("ADE20K", ".jpg", splits=_LONG_NAMES, reduce_zero_label=True),
    "BDD100K": _row("Cityscapes", ".jpg", image_dir="images/10k/{split}", label_dir="labels/sem_seg/masks/{split}"),
    # 11, the last stored number, is void.
    "CamVid": _row("CamVid", (".jpg", ".png"), label_map={11: 255}),
    "ChaseDB1": _row("Vessels", ".png", "_1stHO.png", splits=_LONG_NAMES),
    "Cityscapes": _row(
        "Cityscapes",
        "_leftImg8bit.png",
        "_gtFine_labelTrainIds.png",
        image_dir="leftImg8bit/{split}",
        label_dir="gtFine/{split}",
    ),
    # Masks count from 1. The reference has one class for both COCO-Stuff sets; its configs of this one set this.
    "COCOStuff10k": _row(
        "COCOStuff",
        ".jpg",
        "_labelTrainIds.png",
        splits={"train": "train2014", "val": "test2014", "test": "test2014"},
        reduce_zero_label=True,
    ),
    "COCOStuff164k": _row("COCOStuff", ".jpg", "_labelTrainIds.png", splits={"train": "train2017", "val": "val2017"}),
    # To evaluate on: one drive by night, whose masks are public.
    "DarkZurich": _row(
        "Cityscapes",
        "_rgb_anon.png",
        "_gt_labelTrainIds.png",
        image_dir="rgb_anon/{split}/night/GOPR0356",
        label_dir="gt/{split}/night/GOPR0356",
        splits={"test": "val"},
    ),
    # The Medical Segmentation Decathlon (Antonelli et al., 2022): dataset.json has the classes. There is no part to
    # validate on: data.val.split_file lists names of the training part.
    "Decathlon": DatasetInfo(
        image_dir="", label_dir="", image_suffix=(), label_suffix=(), kind="volumes", splits={"train": "training"}
    ),
    "Demo": _row("Demo", ".png", kind="demo"),
    "DRIVE": _row("Vessels", ".png", "_manual1.png", splits=_LONG_NAMES),
    "FolderDataset": DatasetInfo(label_suffix=_MASKS),
    # Two images of a place at two dates; the masks say what has changed.
    "FolderCDDataset": DatasetInfo(image_dir2="images2/{split}", label_suffix=_MASKS),
    "HRF": _row("Vessels", ".png", splits=_LONG_NAMES),
    # Hyperspectral pictures of 25 bands as arrays. The reference's scores leave out class 0: data.ignore_index = 0.
    "HSIDrive20": _row("HSIDrive20", ".npy", splits=_LONG_NAMES),
    "iSAID": _row("iSAID", ".png", "_instance_color_RGB.png", **_TILES),
    # The reference's recipe evaluates on the part test.
    "LEVIRCD": _row(
        "LEVIRCD",
        ".png",
        image_dir="{split}/A",
        image_dir2="{split}/B",
        image_suffix2=(".png",),
        label_dir="{split}/label",
    ),
    "LIP": _row("LIP", ".jpg", image_dir="{split}_images", label_dir="{split}_segmentations"),
    "LoveDA": _row("LoveDA", ".png", reduce_zero_label=True, **_TILES),
    # Recipes of 65 classes leave out the last one, "Unlabeled": data.classes = DATASETS["MapillaryV1"].classes[:65].
    "MapillaryV1": _row(
        "MapillaryV1", ".jpg", image_dir="{split}/images", label_dir="{split}/v1.2/labels", splits=_LONG_NAMES
    ),
    "MapillaryV2": _row(
        "MapillaryV2", ".jpg", image_dir="{split}/images", label_dir="{split}/v2.0/labels", splits=_LONG_NAMES
    ),
    # To evaluate on: there is a part test only.
    "NightDriving": _row(
        "Cityscapes",
        "_leftImg8bit.png",
        "_gtCoarse_labelTrainIds.png",
        image_dir="leftImg8bit/{split}/night",
        label_dir="gtCoarse_daytime_trainvaltest/{split}/night",
    ),
    # Masks are depths in millimetres, of 16 bits.
    "NYU": DatasetInfo(NYU_SCENES, image_suffix=(".jpg",), splits={"val": "test"}, depth=True),
    "PascalContext": _row("PascalContext", ".jpg", **_CONTEXT),
    "PascalContext59": _row("PascalContext", ".jpg", without="background", reduce_zero_label=True, **_CONTEXT),
    "PascalVOC12": _row("PascalVOC12", ".jpg", **_VOC),
    # Trains on the Semantic Boundaries Dataset (Hariharan et al., 2011) too, converted to a folder of its own.
    "PascalVOC12Aug": _row(
        "PascalVOC12",
        ".jpg",
        splits={"train": ("train", "aug")},
        label_dirs={"aug": "SegmentationClassAug"},
        **_VOC,
    ),
    "Potsdam": _row("ISPRS", ".png", reduce_zero_label=True, **_TILES),
    "REFUGE": _row("REFUGE", ".png", splits=_LONG_NAMES),
    "STARE": _row("Vessels", ".png", ".ah.png", splits=_LONG_NAMES),
    "Synapse": _row("Synapse", ".jpg", **_TILES),
    # Whatever TensorFlow Datasets has prepared with file_format="array_record"; root is the folder of a version.
    "TFDS": DatasetInfo(
        image_dir="", label_dir="", image_suffix=(), label_suffix=(), kind="records", splits={"val": "validation"}
    ),
    "Vaihingen": _row("ISPRS", ".png", reduce_zero_label=True, **_TILES),
}

# Names of the mask in examples that call it otherwise than `DatasetInfo.label_key` says.
LABEL_KEYS = ("segmentation_mask", "segmentation_label", "segmentation", "label", "mask", "annotation")

# MMSegmentation's `type` of a data set -> keys of `DATASETS`. Where several rows share a type, the one whose fields
# are the type's defaults comes first.
REFERENCE_NAMES: dict[str, tuple[str, ...]] = {
    "ADE20KDataset": ("ADE20K",),
    "BaseSegDataset": ("FolderDataset",),
    "BaseCDDataset": ("FolderCDDataset",),
    "BDD100KDataset": ("BDD100K",),
    "ChaseDB1Dataset": ("ChaseDB1",),
    "CityscapesDataset": ("Cityscapes",),
    "COCOStuffDataset": ("COCOStuff164k", "COCOStuff10k"),
    "CustomDataset": ("FolderDataset",),
    "DarkZurichDataset": ("DarkZurich",),
    "DecathlonDataset": ("Decathlon",),
    "DRIVEDataset": ("DRIVE",),
    "HRFDataset": ("HRF",),
    "HSIDrive20Dataset": ("HSIDrive20",),
    "iSAIDDataset": ("iSAID",),
    "ISPRSDataset": ("Vaihingen",),
    "LEVIRCDDataset": ("LEVIRCD",),
    "LIPDataset": ("LIP",),
    "LoveDADataset": ("LoveDA",),
    "MapillaryDataset_v1": ("MapillaryV1",),
    "MapillaryDataset_v2": ("MapillaryV2",),
    "NightDrivingDataset": ("NightDriving",),
    "NYUDataset": ("NYU",),
    "PascalContextDataset": ("PascalContext",),
    "PascalContextDataset59": ("PascalContext59",),
    "PascalVOCDataset": ("PascalVOC12", "PascalVOC12Aug"),
    "PotsdamDataset": ("Potsdam",),
    "REFUGEDataset": ("REFUGE",),
    "STAREDataset": ("STARE",),
    "SynapseDataset": ("Synapse",),
}
# Types that have no row, and why.
WITHOUT_ROW: dict[str, str] = {
    "DSDLSegDataset": (
        "It reads descriptions in a language of their own (DSDL) through a package of that name. Lay its images and "
        "masks out as folders, and read them as a BaseSegDataset with metainfo.classes."
    ),
}
