"""Writes `fixtures/nifti.npz`: small files that nibabel wrote, and what nibabel reads in them.

Run with a Python that has nibabel:

    python tests/data/make_nifti_fixtures.py
"""

import gzip
from pathlib import Path

import nibabel
import numpy as np

OUT = Path(__file__).parent / "fixtures" / "nifti.npz"


def main():
    rng = np.random.default_rng(0)
    volume = rng.integers(-300, 3000, (5, 4, 3)).astype(np.int16)
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    images = {
        "int16": nibabel.Nifti1Image(volume, affine),
        "scaled": nibabel.Nifti1Image(volume, affine),
        "big_endian": nibabel.Nifti1Image(volume.astype(">i2"), affine, nibabel.Nifti1Header(endianness=">")),
        "float32": nibabel.Nifti1Image(rng.random((5, 4, 3), np.float32), affine),
        "channels": nibabel.Nifti1Image(rng.integers(0, 255, (5, 4, 3, 2)).astype(np.uint8), affine),
        "packed": nibabel.Nifti1Image(volume, affine),
        "extension": nibabel.Nifti1Image(volume, affine),
    }
    images["scaled"].header.set_slope_inter(0.25, -17.5)
    images["extension"].header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"of several bytes"))
    out = {}
    for case, image in images.items():
        content = image.to_bytes()
        read = nibabel.Nifti1Image.from_bytes(content)
        out[f"{case}.data"] = read.get_fdata()
        out[f"{case}.voxel"] = np.array(read.header.get_zooms()[:3])
        content = gzip.compress(content, mtime=0) if case == "packed" else content
        out[f"{case}.file"] = np.frombuffer(content, np.uint8)
    np.savez_compressed(OUT, **out)
    print(f"{OUT}: {OUT.stat().st_size} bytes, nibabel {nibabel.__version__}")


if __name__ == "__main__":
    main()
