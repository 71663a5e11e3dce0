"""Writes folders of pictures and masks to measure input pipelines with, made of a few photos.

    python tools/make_input_samples.py cityscapes OUT PHOTO [PHOTO ...] --count 200
    python tools/make_input_samples.py ade OUT PHOTO [PHOTO ...] --count 200

`cityscapes` writes PNGs of 2048x1024 and masks of 19 classes in that data set's folders, `ade` JPEGs of common
ADE20K sizes and masks of 150 classes (0 is ignored). Each picture is a part of a photo, mirrored or not, with other
colours and a little noise, which makes files about as large as the real ones.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

ADE_SIZES = ((512, 683), (512, 683), (683, 512), (512, 512), (375, 500), (480, 640), (256, 256), (300, 400), (512, 768))


def picture(photo: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A part of a photo (BGR), of `size` (h, w)."""
    height, width = photo.shape[:2]
    shape = size[0] / size[1]
    largest = min(width, int(height / shape))
    cut = int(largest * rng.uniform(0.75, 1))
    rows = int(cut * shape)
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - cut + 1))
    part = cv2.resize(photo[top : top + rows, left : left + cut], size[::-1], interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    part = part * rng.uniform(0.8, 1.2, 3) + rng.uniform(-12, 12)
    return np.clip(part + rng.normal(0, 0.6, part.shape), 0, 255).astype(np.uint8)


def regions(image: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """A label map: connected regions of about one colour, classes 0 to `classes` - 1."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.medianBlur(small, 9)
    cell = (small // 48).astype(np.int64) @ np.array([1, 6, 36])
    label = rng.integers(0, classes, 216).astype(np.uint8)[cell]
    label = cv2.medianBlur(label, 7)
    return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)


def main() -> None:
    """Writes what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("cityscapes", "ade"))
    parser.add_argument("out", type=Path)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    photos = [cv2.imread(path) for path in args.photos]
    for path, photo in zip(args.photos, photos, strict=True):
        if photo is None:
            parser.error(f"{path} is no image that can be read")
    rng = np.random.default_rng(args.seed)
    for number in range(args.count):
        photo = photos[number % len(photos)]
        if args.kind == "cityscapes":
            image = picture(photo, (1024, 2048), rng)
            label = regions(image, 20, rng)
            label[label == 19] = 255
            name = f"town/town_{number:06d}_000019"
            files = f"leftImg8bit/{{}}/{name}_leftImg8bit.png", f"gtFine/{{}}/{name}_gtFine_labelTrainIds.png"
            # As those of the data set are written.
            options = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH, cv2.IMWRITE_PNG_COMPRESSION, 6)
            parts = "train", "val"
        else:
            image = picture(photo, ADE_SIZES[int(rng.integers(len(ADE_SIZES)))], rng)
            label = regions(image, 151, rng)
            files = f"images/{{}}/ADE_{number:08d}.jpg", f"annotations/{{}}/ADE_{number:08d}.png"
            parts, options = ("training", "validation"), (cv2.IMWRITE_JPEG_QUALITY, 92)
        for part in parts:
            for array, file, given in ((image, files[0], options), (label, files[1], ())):
                path = args.out / file.format(part)
                path.parent.mkdir(parents=True, exist_ok=True)
                if part == parts[0]:
                    cv2.imwrite(str(path), array, given)
                elif not path.exists():  # the same pictures are trained on and evaluated
                    path.symlink_to((args.out / file.format(parts[0])).resolve())
    print(f"{args.out}: {args.count} pictures and masks")


if __name__ == "__main__":
    main()
