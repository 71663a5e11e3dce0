"""The data sets jaxseg knows: names, colours, and where their files lie. A table, nothing else."""

from dataclasses import dataclass, field

Color = tuple[int, int, int]


@dataclass(frozen=True)
class DatasetInfo:
    """One data set.

    Attributes:
        classes: class names; the index in this tuple is the label. Empty: the config must give them.
        palette: an (r, g, b) in 0..255 for each class. Empty: colours are made up.
        image_dir: folder of the images below the root; `{split}` is filled in.
        label_dir: folder of the masks below the root; an empty string means there are none.
        image_suffix: how the names of images end, any of these.
        label_suffix: how the names of masks end; a mask has its image's path but for the suffix.
        reduce_zero_label: stored 0 is ignored, every other stored number counts one less.
        ignore_index: the label that neither loss nor metrics count.
        label_map: stored number (after `reduce_zero_label`) -> class index or `ignore_index`.
        generated: drawn by a function of jaxseg instead of read from files.
    """

    classes: tuple[str, ...] = ()
    palette: tuple[Color, ...] = ()
    image_dir: str = "images/{split}"
    label_dir: str = "annotations/{split}"
    image_suffix: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
    label_suffix: tuple[str, ...] = (".png",)
    reduce_zero_label: bool = False
    ignore_index: int = 255
    label_map: dict[int, int] = field(default_factory=dict)
    generated: bool = False


DATASETS: dict[str, DatasetInfo] = {
    "CamVid": DatasetInfo(
        classes=(
            "sky", "building", "pole", "road", "pavement", "tree",
            "sign symbol", "fence", "car", "pedestrian", "bicyclist",
        ),
        palette=(
            (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
            (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
        ),
        image_suffix=(".jpg", ".png"),
        label_map={11: 255},
    ),
    "Cityscapes": DatasetInfo(
        classes=(
            "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
            "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
        ),
        palette=(
            (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
            (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
            (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
        ),
        image_dir="leftImg8bit/{split}",
        label_dir="gtFine/{split}",
        image_suffix=("_leftImg8bit.png",),
        label_suffix=("_gtFine_labelTrainIds.png",),
    ),
    "Demo": DatasetInfo(
        classes=("background", "disk", "box", "triangle", "ring", "cross"),
        palette=(
            (40, 44, 52), (231, 111, 81), (42, 157, 143), (233, 196, 106), (90, 120, 220), (200, 90, 180),
        ),
        image_suffix=(".png",),
        generated=True,
    ),
    "FolderDataset": DatasetInfo(label_suffix=(".png", ".gif", ".tif", ".tiff", ".bmp")),
}  # fmt: skip
