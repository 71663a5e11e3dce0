import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxseg.errors import DataError
from jaxseg.visualize.bands import as_picture
from jaxseg.visualize.overlay import (
    CORRECT,
    IGNORED,
    WRONG,
    boundaries,
    colorize,
    error_map,
    legend,
    overlay,
    panel,
)
from jaxseg.visualize.palettes import default_palette

PALETTE = [[200, 0, 0], [0, 200, 0], [0, 0, 200]]


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    truth = np.zeros((40, 60), np.uint8)
    truth[:, 30:] = 1
    truth[30:] = 2
    truth[:4, :6] = 255
    prediction = truth.astype(np.int32)
    prediction[:4, :6] = 0
    prediction[10:20, 10:20] = 2
    return image, truth, prediction


def shows(picture, color):
    return bool((picture == np.array(color)).all(axis=-1).any())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_colorize_paints_classes_and_stripes_the_rest(dtype):
    labels = np.array([[0, 1, 2, 3, 255]] * 12, np.int64).astype(dtype)
    picture = colorize(labels, PALETTE)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[:, :3], np.tile(np.uint8(PALETTE), (12, 1, 1)))
    striped = picture[:, 3:]
    assert (striped == striped[..., :1]).all(), "stripes are grey"
    assert len(np.unique(striped)) == 2


def test_colorize_negative_labels_and_an_ignored_class_are_striped():
    labels = np.array([[-1, 0, 1]])
    picture = colorize(labels, PALETTE, ignore_index=0)
    assert not shows(picture[:, :2], PALETTE[0])
    assert not shows(picture[:, :2], PALETTE[2]), "-1 must not count from the end"
    assert picture[0, 2].tolist() == PALETTE[1]


def test_boundaries_are_one_pixel_wide():
    labels = np.zeros((4, 6), int)
    labels[:, 3:] = 1
    expected = np.zeros((4, 6), bool)
    expected[:, 2] = True
    np.testing.assert_array_equal(boundaries(labels), expected)
    assert not boundaries(np.full((1, 1), 7)).any()


def test_overlay_blends_inside_and_lightens_the_boundary(scene):
    image, truth, _ = scene
    picture = overlay(image, truth, PALETTE, opacity=0.25)
    inside = ~boundaries(truth) & (truth != 255)
    expected = 0.75 * image[inside] + 0.25 * np.array(PALETTE)[truth[inside]]
    assert np.abs(picture[inside] - expected).max() <= 0.5 + 1e-3
    edge = boundaries(truth)
    assert picture[edge].mean() > 160 > picture[inside].mean()
    flat = np.ones((40, 60), np.uint8)
    np.testing.assert_array_equal(overlay(image, flat, PALETTE, opacity=0.0), image)
    np.testing.assert_array_equal(overlay(image, flat, PALETTE, opacity=1.0), colorize(flat, PALETTE))


def test_overlay_leaves_its_inputs_alone(scene):
    image, truth, _ = scene
    before = image.copy(), truth.copy()
    overlay(image, truth, PALETTE)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(truth, before[1])


def test_overlay_refuses_what_does_not_fit(scene):
    image, truth, _ = scene
    with pytest.raises(DataError, match="opacity is 60"):
        overlay(image, truth, PALETTE, opacity=60.0)
    # With run-time shape checks on, those speak first.
    with pytest.raises((DataError, TypeCheckError)):
        overlay(image, truth[:-1], PALETTE)
    with pytest.raises((DataError, TypeCheckError)):
        error_map(truth[:-1], truth)


def test_error_map_colours(scene):
    image, truth, prediction = scene
    picture = error_map(prediction, truth)
    assert picture[15, 15].tolist() == list(WRONG)
    assert picture[0, 0].tolist() == list(IGNORED), "a pixel nobody knows is never wrong"
    assert picture[35, 35].tolist() == list(CORRECT)
    dimmed = error_map(prediction, truth, image=image)
    right = (prediction == truth) & (truth != 255)
    assert dimmed[right].max() < 90
    assert dimmed[15, 15].tolist() == list(WRONG)


def test_legend_shows_the_classes_that_are_present():
    names = ["road", "tree", "sky"]
    every = legend(names, PALETTE)
    assert all(shows(every, color) for color in PALETTE)
    some = legend(names, PALETTE, indices=np.array([1, 255]))
    assert [shows(some, color) for color in PALETTE] == [False, True, False]
    assert some.shape[1] < every.shape[1]
    with pytest.raises(DataError, match="No class"):
        legend(names, PALETTE, indices=[255])
    with pytest.raises(DataError, match="3 colours for 4 classes"):
        legend([*names, "car"], PALETTE)


def test_legend_wraps_into_columns_and_shortens_long_names():
    names = [f"class {index}" for index in range(60)]
    wide = legend(names, default_palette(60), max_width=900)
    narrow = legend(names, default_palette(60), max_width=200)
    assert wide.shape[1] <= 900
    assert narrow.shape[1] <= 200
    assert wide.shape[0] < narrow.shape[0]
    long = legend(["a name\nof " + "many words " * 50], PALETTE, max_width=300)
    assert long.shape[1] <= 301
    assert long.shape[0] < 40, "a line break in a name does not break the legend"


@pytest.mark.parametrize(("columns", "shape"), [(4, (1, 4)), (2, (2, 2)), (9, (1, 4))])
def test_panel_holds_the_four_pictures(scene, columns, shape):
    image, truth, prediction = (np.repeat(np.repeat(part, 5, 0), 5, 1) for part in scene)
    picture = panel(image, truth, prediction, PALETTE, columns=columns)
    rows, across = shape
    height, width = picture.shape[0] // rows, (picture.shape[1] + 8) // across
    assert width == 300 + 8
    caption = height - 200
    first = picture[caption : caption + 200, :300]
    np.testing.assert_array_equal(first, image)
    last = picture[-200:, -300:]
    np.testing.assert_array_equal(last, error_map(prediction, truth, image=image))
    assert picture[:caption].min() < 100, "a caption is written above"


@pytest.mark.parametrize(("size", "tile"), [((1000, 2000), (240, 480)), ((8, 16), (80, 160)), ((900, 30), (480, 16))])
def test_panel_scales_large_and_tiny_photos(size, tile):
    image = np.full((*size, 3), 90, np.uint8)
    truth = np.zeros(size, np.int64)
    picture = panel(image, truth, truth, PALETTE)
    caption = picture.shape[0] - tile[0]
    assert 15 < caption < 40
    assert picture.shape[1] == 4 * max(tile[1], 160) + 3 * 8


def test_panel_of_an_image_without_labels():
    unknown = np.full((20, 20), 255, np.uint8)
    picture = panel(np.zeros((20, 20, 3), np.uint8), unknown, np.zeros_like(unknown), PALETTE)
    assert shows(picture[-100:, -100:], IGNORED)
    assert not shows(picture, WRONG)


def test_several_classes_a_pixel_mix_their_colours(scene):
    image = scene[0]
    labels = np.zeros((40, 60, 3), np.uint8)
    labels[:20, :, 0] = 1
    labels[:20, :30, 1] = 1
    painted = colorize(labels, PALETTE)
    assert painted[5, 5].tolist() == [100, 100, 0]
    assert painted[5, 50].tolist() == [200, 0, 0]
    assert painted[30, 5].tolist() == [0, 0, 0]
    drawn = overlay(image, labels, PALETTE)
    np.testing.assert_array_equal(drawn[25:], image[25:])
    assert boundaries(labels)[:, 29].sum() == 20 + 0
    truth = labels.copy()
    truth[0, 0, 2], truth[39] = 1, 255
    errors = error_map(labels, truth, image=image)
    assert (errors[0, 0] == WRONG).all()
    assert (errors[39] == IGNORED).all()
    assert (errors == np.array(WRONG)).all(-1).sum() == 1
    assert panel(image, truth, labels, PALETTE).shape[2] == 3


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (2, np.uint16), (7, np.uint16), (4, np.float32)])
def test_images_of_any_channels_are_pictures(channels, dtype):
    image = (np.arange(40 * 60 * channels).reshape(40, 60, channels) % 997).astype(dtype)
    picture = as_picture(image)
    assert picture.shape == (40, 60, 3)
    assert picture.dtype == np.uint8
    assert picture.min() == 0
    assert picture.max() == 255
    shown = min(channels, 3)
    for band in range(shown):
        order = np.argsort(image[..., band].ravel(), kind="stable")
        assert (np.diff(picture[..., band].ravel()[order].astype(int)) >= 0).all()
    assert as_picture(np.full((4, 5, 7), 9, np.uint16)).max() == 0
    rgb = np.zeros((4, 5, 3), np.uint8)
    assert as_picture(rgb) is rgb
