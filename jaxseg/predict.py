"""Segments images: `python -m jaxseg.predict --workdir RUN_FOLDER --out DIR FILE_OR_FOLDER ...`.

Writes NAME.png, the label map (class indices), and NAME_overlay.png for every image.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.progress import track

from jaxseg.cli import main, set_compilation_cache
from jaxseg.data.datasets import DatasetInfo
from jaxseg.errors import DataError
from jaxseg.inference import load_run

IMAGE_SUFFIXES = DatasetInfo().image_suffix

_WORKDIR = flags.DEFINE_string("workdir", None, "The run folder.", required=True)
_STEP = flags.DEFINE_integer("step", None, "The checkpoint. Default: the best.")
_OUT = flags.DEFINE_string("out", "predictions", "Where the results go.")
_TTA = flags.DEFINE_bool("tta", False, "Average over the image and its mirror image.")


def find_images(paths: Sequence[str]) -> list[Path]:
    """The image files among the paths, and in the folders among them.

    Raises:
        DataError: A path does not exist, or a folder holds no image.
    """
    images = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise DataError(f"{path} holds no image (looked for {', '.join(IMAGE_SUFFIXES)})")
            images += inside
        elif path.is_file():
            images.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    if not images:
        raise DataError("Name the images, or a folder of images, to segment; see --help.")
    return images


def run(argv: Sequence[str]) -> None:
    """Predicts what the flags say."""
    images = find_images(argv[1:])
    segmenter = load_run(_WORKDIR.value, _STEP.value)
    set_compilation_cache(segmenter.config.compilation_cache)
    out = Path(_OUT.value)
    for path in track(images, description="segmenting"):
        segmenter.predict(path, tta=_TTA.value).save(out)
    print(f"{len(images)} label maps and overlays in {out}")


if __name__ == "__main__":
    main(run, __doc__, takes_arguments=True)
