"""Segments images: `python -m jaxseg.predict --workdir RUN_FOLDER --out DIR FILE_OR_FOLDER ...`.

Writes NAME.png, the label map (class indices), and NAME_overlay.png for every image. Images of a folder keep their
subfolders.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from jaxseg.cli import Parser, main, set_compilation_cache
from jaxseg.data.datasets import DatasetInfo
from jaxseg.errors import DataError
from jaxseg.inference import load, result_paths

IMAGE_SUFFIXES = DatasetInfo().image_suffix


def find_images(paths: Sequence[str], out: Path) -> dict[str, Path]:
    """The image files among the paths, and in the folders among them, by the names of their results.

    A name is the file's, without suffix; with it where two would have one name otherwise. What lies in `out`, the
    results of an earlier call, is not looked at.

    Raises:
        DataError: A path does not exist, a folder holds no image, two results would have one name, or a result
            would replace an image.
    """
    place = out.resolve()
    images: dict[Path, tuple[Path, Path]] = {}  # by their true path, so each once: name with suffix, file
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
            if place.is_relative_to(path.resolve()) and place != path.resolve():
                found = [file for file in found if not file.resolve().is_relative_to(place)]
            if not found:
                raise DataError(f"{path} holds no image (looked for {', '.join(IMAGE_SUFFIXES)})")
            for file in found:
                images.setdefault(file.resolve(), (file.relative_to(path), file))
        elif path.is_file():
            images.setdefault(path.resolve(), (Path(path.name), path))
        else:
            raise DataError(f"{path}: no such file or folder")

    stems = Counter(path.with_suffix("") for path, _ in images.values())
    named: dict[str, Path] = {}
    results: dict[Path, Path] = {}
    for path, file in images.values():
        stem = path.with_suffix("")
        name = (path if stems[stem] > 1 else stem).as_posix()
        for result in result_paths(out, name):
            if result in results:
                raise DataError(f"{results[result]} and {file} would both become {result}: segment them in two calls.")
            results[result] = file
        named[name] = file
    replaced = {result.resolve() for result in results} & images.keys()
    if replaced:
        raise DataError(f"{min(replaced)} is an image, and a result would replace it: give another folder as --out.")
    return named


def make_parser() -> Parser:
    """The flags."""
    parser = Parser("predict", __doc__)
    parser.add_argument("images", nargs="+", metavar="FILE_OR_FOLDER", help="what to segment")
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="the run folder, or the name of a published model"
    )
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint; default: the best")
    parser.add_argument("--out", default="predictions", metavar="DIR", help="for the results; default: predictions")
    parser.add_argument("--tta", action="store_true", help="average over the image and its mirror image")
    return parser


def run(args: argparse.Namespace) -> None:
    """Predicts what the flags say."""
    out = Path(args.out)
    images = find_images(args.images, out)
    segmenter = load(args.workdir, args.step)
    set_compilation_cache(segmenter.config.compilation_cache)
    for name, path in track(images.items(), description="segmenting", total=len(images)):
        segmenter.predict(path, tta=args.tta).save(out, name)
    print(f"{len(images)} label maps and overlays in {out}")


if __name__ == "__main__":
    main(make_parser(), run)
