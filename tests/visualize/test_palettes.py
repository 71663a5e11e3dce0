import numpy as np
import pytest

from jaxseg.errors import DataError
from jaxseg.visualize.palettes import default_palette, palette_array, srgb_to_lab

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def least_distance(colors):
    lab = srgb_to_lab(colors)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
    return distances[~np.eye(len(colors), dtype=bool)].min()


def simulate(colors, matrix):
    encoded = colors / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    return np.rint(255 * np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)).astype(int)


@pytest.mark.parametrize("n", [0, 1, 2, 8, 11, 19, 150, 256, 400])
def test_default_palette_is_distinct_and_grows_by_appending(n):
    palette = default_palette(n)
    assert len(palette) == len(set(palette)) == n
    assert default_palette(400)[:n] == palette
    assert all(isinstance(value, int) and 0 <= value <= 255 for color in palette for value in color)


def test_default_palette_colours_are_easy_to_tell_apart():
    assert least_distance(np.array(default_palette(21))) > 25
    assert least_distance(np.array(default_palette(256))) > 10


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_first_eight_colours_stay_apart_for_the_colour_blind(blindness):
    assert least_distance(simulate(np.array(default_palette(8)), BLINDNESS[blindness])) > 15


def test_default_palette_keeps_clear_of_black_white_and_grey():
    red, green, blue = np.array(default_palette(256)).T
    lightness = srgb_to_lab(np.array(default_palette(256)))[:, 0]
    spread = np.max([red, green, blue], axis=0) - np.min([red, green, blue], axis=0)
    assert lightness.min() > 15
    assert lightness.max() < 95
    assert spread.min() >= 30


def test_lab_of_known_colours():
    lab = srgb_to_lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]]))
    np.testing.assert_allclose(lab, [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]], atol=0.02)


def test_too_many_colours_say_how_many_there_are():
    with pytest.raises(DataError, match=r"from 0 to \d+"):
        default_palette(100_000)
    with pytest.raises(DataError, match="-1"):
        default_palette(-1)


def test_palette_array_takes_lists_tuples_and_arrays():
    expected = np.array([[1, 2, 3], [4, 5, 255]], np.uint8)
    for palette in ([[1, 2, 3], [4, 5, 255]], ((1, 2, 3), (4, 5, 255)), expected):
        np.testing.assert_array_equal(palette_array(palette), expected)


def test_palette_array_names_the_bad_colour_and_the_lack():
    with pytest.raises(DataError, match="Colour 1 "):
        palette_array([[1, 2, 3], [4, 5, 256]])
    with pytest.raises(DataError, match="2 colours for 3 classes"):
        palette_array([[1, 2, 3], [4, 5, 6]], classes=3)
