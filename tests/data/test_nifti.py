"""NIfTI files: read as nibabel reads them, written and read back, and what is said of damaged ones."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from jaxseg.data.nifti import decode_nifti, read_nifti, read_nifti_header, write_nifti
from jaxseg.errors import DataError


@pytest.fixture(scope="module")
def figures():
    with np.load(Path(__file__).parent / "fixtures" / "nifti.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("case", ["int16", "scaled", "big_endian", "float32", "channels", "packed", "extension"])
def test_files_of_nibabel_read_as_nibabel_reads_them(figures, tmp_path, case):
    content = figures[f"{case}.file"].tobytes()
    volume = decode_nifti(content, "x.nii")
    np.testing.assert_array_equal(volume.astype(np.float64), figures[f"{case}.data"])
    assert volume.dtype.isnative
    path = tmp_path / "x.nii"
    path.write_bytes(content)
    header = read_nifti_header(path)
    assert header.shape == volume.shape
    np.testing.assert_allclose(header.voxel, figures[f"{case}.voxel"], rtol=1e-6)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.int64])
def test_a_written_file_reads_back(tmp_path, name, kind):
    volume = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2).astype(kind)
    write_nifti(tmp_path / name, volume, voxel=(0.5, 1, 2))
    back = read_nifti(tmp_path / name)
    np.testing.assert_array_equal(back, volume)
    assert back.dtype == kind
    assert read_nifti_header(tmp_path / name).voxel == (0.5, 1, 2)
    first = (tmp_path / name).read_bytes()
    write_nifti(tmp_path / name, volume, voxel=(0.5, 1, 2))
    assert (tmp_path / name).read_bytes() == first


def damaged(content, case):
    if case == "cut":
        return content[:-10]
    if case == "packed and cut":
        return gzip.compress(content)[:-30]
    if case == "pair":
        return content[:344] + b"ni1\0" + content[348:]
    if case == "no header":
        return content[:200]
    if case == "colours":
        return content[:70] + np.int16(128).tobytes() + content[72:]
    if case == "flat":
        return content[:40] + np.array([2, 4, 6, 1, 1, 1, 1, 1], np.int16).tobytes() + content[56:]
    return b"\x89PNG" + content[4:]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("cut", r"cut short: \d+ bytes, but 2x3x4 numbers of 4 bytes"),
        ("packed and cut", "damaged or cut short"),
        ("pair", "half of a pair"),
        ("no header", "header of 348 bytes is missing"),
        ("colours", "type 128"),
        ("flat", r"shape \(4, 6\)"),
        ("other", "no NIfTI-1 file"),
    ],
)
def test_damaged_files_are_named(tmp_path, case, message):
    path = tmp_path / "scan.nii"
    write_nifti(path, np.ones((2, 3, 4), np.float32))
    path.write_bytes(damaged(path.read_bytes(), case))
    with pytest.raises(DataError, match=f"scan.nii .*{message}"):
        read_nifti(path)


def test_a_missing_file_and_a_flat_array_are_errors(tmp_path):
    for read in (read_nifti, read_nifti_header):
        with pytest.raises(DataError, match=r"Cannot read .*none.nii: No such file"):
            read(tmp_path / "none.nii")
    with pytest.raises(DataError, match="cannot be written"):
        write_nifti(tmp_path / "x.nii", np.ones((4, 4), np.float32))
