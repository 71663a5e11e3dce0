"""Writes fixtures/tfds_shapes.zip: a small data set as TensorFlow Datasets prepares it.

    pip install 'jaxseg[tfds]'
    python tests/data/make_tfds_fixture.py

Pictures are functions of their numbers, which the test draws again.
"""

import io
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FIXTURE = Path(__file__).parent / "fixtures" / "tfds_shapes.zip"
CLASSES = ("none", "disk", "box")


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image [h w 3] and a mask [h w] of the classes 0, 1, 2."""
    rng = np.random.default_rng(number)
    size = (12, 16) if number % 2 else (14, 10)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, 3, size).astype(np.uint8)


def main() -> None:
    import tensorflow_datasets as tfds

    def png(picture: np.ndarray) -> io.BytesIO:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        return io.BytesIO(buffer.getvalue())

    class Shapes(tfds.core.GeneratorBasedBuilder):
        """The mask once in every way that it can be stored in."""

        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = Path(__file__).parent  # of a builder that is in no package

        def _info(self) -> Any:
            array = {"shape": (None, None), "dtype": np.uint8}
            features = {
                "boxes": tfds.features.Sequence({"side": np.float32}),
                "corner": tfds.features.Tensor(shape=(2, 3), dtype=np.uint8),
                "count": np.int64,
                "file_name": tfds.features.Text(),
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["x", "y"]),
                "labeled": tfds.features.LabeledImage(labels=list(CLASSES), shape=(None, None, 1)),
                "packed": tfds.features.Tensor(**array, encoding=tfds.features.Encoding.ZLIB),
                "plain": tfds.features.Tensor(**array, encoding=tfds.features.Encoding.BYTES),
                "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager: Any) -> dict[str, Any]:
            return {"train": self._generate_examples(0, 5), "validation": self._generate_examples(5, 8)}

        def _generate_examples(self, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
            for number in range(start, stop):
                image, mask = draw(number)
                yield (
                    number,
                    {
                        "boxes": [{"side": 0.5}] * (number % 3),
                        "corner": mask[:2, :3],
                        "count": -number,
                        "file_name": f"shape {number}.png",
                        "image": png(image),
                        "label": "y",
                        "labeled": png(mask),
                        "packed": mask,
                        "plain": mask,
                        "segmentation_mask": png(mask),
                    },
                )

    with tempfile.TemporaryDirectory() as folder:
        builder = Shapes(data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
        with zipfile.ZipFile(FIXTURE, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(builder.data_dir).iterdir()):
                archive.write(path, path.name)
    print(f"{FIXTURE}: {FIXTURE.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    # Builders must not live in __main__.
    sys.path.insert(0, str(Path(__file__).parent))
    import make_tfds_fixture

    make_tfds_fixture.main()
