"""Data sets for the tests of their check: sound ones, and ways to harm them."""

import shutil

import cv2
import numpy as np
from PIL import Image

from jaxseg.data.checking import check_dataset, groups
from jaxseg.data.datasets import DATASETS

CLASSES = DATASETS["Demo"].classes
FLAG = f"--config.data.classes={CLASSES}"
LOAD = ({"type": "LoadImage"}, {"type": "LoadAnnotations"})
TRAIN = (*LOAD, {"type": "RandomCrop", "crop_size": (48, 64)}, {"type": "Pad", "size": (48, 64)})


def recipe(root, **fields):
    data = {"dataset": "FolderDataset", "root": str(root), "classes": CLASSES, "palette": None}
    for part in ("train", "val", "test"):
        data[part] = {"split": part, "split_file": None, "transforms": TRAIN if part == "train" else LOAD}
    return {"data": data | fields}


def check(root, parts=(), model=None, **fields):
    return check_dataset(recipe(root, **fields) | {"model": model or {}}, parts, workers=0)


def kinds(checked):
    return {finding.kind for finding in checked.findings}


class Harmed:
    """A copy of a data set to be harmed; pictures by number, each for one fault."""

    def __init__(self, root):
        self.root = root

    def path(self, kind, number, part="train", suffix=".png"):
        return self.root / ("images" if kind == "image" else "annotations") / part / f"{part}_{number:05d}{suffix}"

    def change(self, kind, number, change, part="train"):
        path = self.path(kind, number, part)
        Image.fromarray(change(np.array(Image.open(path)))).save(path)
        return path

    def harm(self):
        """Puts in the faults; returns kind -> file, and what value and remedy must say."""
        image, mask, change = (lambda n: self.path("image", n)), (lambda n: self.path("mask", n)), self.change
        wanted = []

        def fault(kind, path, value, fix):
            wanted.append((kind, str(path), value, fix))

        mask(0).unlink()
        fault("image_without_mask", image(0), "nothing of its name", "Add the mask")
        image(1).unlink()
        fault("mask_without_image", mask(1), "no image train_00001", "Add the image")
        image(2).write_bytes(b"")
        fault("unreadable", image(2), "empty", "Copy or download")
        image(3).write_bytes(image(3).read_bytes()[:400])
        fault("unreadable", image(3), "cut short", "Copy or download")
        mask(4).write_bytes(mask(4).read_bytes()[:60])
        fault("unreadable", mask(4), "", "Copy or download")
        image(5).write_text("<html>404 not found</html>")
        fault("unreadable", image(5), "cannot be decoded", "Copy or download")
        fault("size_mismatch", change("mask", 6, lambda m: m[:-3]), "mask 53x72, image 56x72", "own mask")
        fault("size_mismatch", change("mask", 7, lambda m: np.rot90(m).copy()), "turned by 90", "own mask")

        def outside(m):
            m = m.copy()
            m[:2, :5] = 77
            return m

        fault("values", change("mask", 8, outside), "77 (10 px)", "data.label_map")
        fault("colour_mask", change("mask", 9, lambda m: np.stack([m * 30, m, m], 2)), "3 channels", "data.mask_colors")
        Image.open(mask(10)).save(self.path("mask", 10, suffix=".jpg"))
        mask(10).unlink()
        fault("lossy_mask", self.path("mask", 10, suffix=".jpg"), ".jpg", "PNG")
        Image.open(mask(11)).convert("L").save(mask(11), format="JPEG")
        fault("lossy_mask", mask(11), "JPEG", "PNG")
        fault(
            "binary_255", change("mask", 12, lambda m: np.where(m > 0, 255, 0).astype(np.uint8)), "0 and 255", "ignored"
        )
        fault("empty_mask", change("mask", 13, lambda m: np.full_like(m, 255)), "only 255", "Annotate")
        fault("background_only", change("mask", 14, lambda m: np.zeros_like(m)), "'background'", "Fine if")
        shutil.copy(image(16), image(15))
        fault("duplicate", image(16), "train_00015.png", "Remove one")
        shutil.copy(image(17), self.path("image", 0, "val"))
        fault("leak", self.path("image", 0, "val"), "train_00017.png of train", "one part")
        again = self.path("image", 1, "val", ".jpg")
        Image.open(image(18)).resize((144, 112), Image.Resampling.BICUBIC).save(again, quality=85)
        self.path("image", 1, "val").unlink()
        Image.fromarray(np.array(Image.open(self.path("mask", 1, "val"))).repeat(2, 0).repeat(2, 1)).save(
            self.path("mask", 1, "val")
        )
        fault("near_leak", again, "nearly the same as", "one part")
        for kind in ("image", "mask"):
            self.path(kind, 2, "val").rename(self.path(kind, 19).parent.parent / "val" / self.path(kind, 19).name)
        fault("same_name", self.path("image", 19).parent.parent / "val/train_00019.png", "another picture", "Fine if")
        fault("form", change("image", 20, lambda i: i[..., 0]), "1 channel of 8 bits, most have 3", "Convert")
        wide = cv2.imread(str(image(21)), cv2.IMREAD_COLOR).astype(np.uint16) * 257
        cv2.imwrite(str(image(21)), wide)
        fault("loading", image(21), "16", "data.channels")
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.open(image(22)).save(image(22), exif=exif)
        fault("exif", image(22), "orientation 3", "color_ignore_orientation")
        for kind in ("image", "mask"):
            change(kind, 23, lambda a: a[:20, :30].copy())
        fault("small_image", image(23), "20x30, crop 48x64", "crop_size")
        shutil.copy(mask(24), mask(25))
        fault("shared_mask", mask(25), "train_00024.png", "another's mask")
        (image(0).parent / "photo.ppm").write_bytes(b"P6 1 1 255 abc")
        fault("odd_suffix", image(0).parent / "photo.ppm", ".ppm", "image_suffix")
        (mask(0).parent / "notes.txt").write_text("later")
        fault("other_file", mask(0).parent / "notes.txt", ".txt", "Fine if")
        return wanted


def masks(root, change, part="train"):
    """Rewrites all masks of a part."""
    for path in (root / "annotations" / part).iterdir():
        Image.fromarray(change(np.array(Image.open(path))).astype(np.uint8)).save(path)


def only(checked, kind):
    (group,) = groups(finding for finding in checked.findings if finding.kind == kind)
    return group
