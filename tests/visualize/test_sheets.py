"""Contact sheets: where pictures lie, what is drawn over them, and what can't be drawn."""

import numpy as np
import pytest

from jaxseg.errors import DataError
from jaxseg.visualize.charts import class_share_chart
from jaxseg.visualize.sheets import Tile, as_photo, contact_sheet

CLASSES, PALETTE = ("sky", "road"), ((0, 0, 255), (255, 0, 0))


def test_pictures_lie_in_rows_with_their_masks_over_them():
    photo = np.full((30, 40, 3), 100, np.uint8)
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 1
    sheet = contact_sheet(
        [Tile(photo, label), Tile(photo), Tile(photo, mask=label)], CLASSES, PALETTE, columns=2, width=200
    )
    assert sheet.shape[1] == 2 * 210 + 10
    assert sheet[85, 40].tolist() == [50, 50, 178]  # half of the photo, half of the class
    assert sheet[85, 170].tolist() == [178, 50, 50]
    assert sheet[85, 300].tolist() == [100, 100, 100]
    below = sheet[225:420]
    assert (below == (100, 100, 100)).all(axis=2).any()
    assert (below == 0).all(axis=2).any()  # the mask beside the photo, its numbers stretched to black and white
    assert (sheet[-40:] == (255, 0, 0)).all(axis=2).any()  # the legend


def test_what_has_no_picture_and_ignored_pixels():
    empty = contact_sheet([Tile(None, title="gone.png", text="unreadable file: " + "very " * 40)], CLASSES, PALETTE)
    assert empty.shape[1] == 320
    label = np.full((30, 40), 255, np.uint8)
    striped = contact_sheet([Tile(None, label)], CLASSES, PALETTE)
    assert len(np.unique(striped[50:150, 50:150].reshape(-1, 3), axis=0)) == 2
    other_size = contact_sheet([Tile(np.zeros((9, 9), np.uint8), label)], CLASSES, PALETTE)
    assert not other_size[100, 150].any()  # a label of another size is left out


@pytest.mark.parametrize(
    "image",
    [
        np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000,
        np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 4, 5),
        np.full((3, 4, 1), np.nan, np.float32),
        np.zeros((3, 4, 4), np.uint8),
    ],
)
def test_any_image_can_be_looked_at(image):
    photo = as_photo(image)
    assert photo.shape == (3, 4, 3)
    assert photo.dtype == np.uint8
    if np.ptp(image) > 0:
        assert (photo.min(), photo.max()) == (0, 255)


def test_the_chart_of_shares(tmp_path):
    shares = {"train": np.array([0.9, 0.0, 0.1]), "val": np.array([1.0, 0.0, 0.0])}
    path = class_share_chart(shares, ("a", "b", "$c$"), tmp_path / "classes.png")
    assert path.stat().st_size > 5000
    with pytest.raises(DataError, match="2 class names for the shares of train"):
        class_share_chart(shares, ("a", "b"), tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()
    many = {"train": np.full(150, 1 / 150)}
    assert class_share_chart(many, [f"class {i}" for i in range(150)], tmp_path / "many.png").is_file()
