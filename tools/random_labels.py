"""Labels for benchmarks, without the packages of either side."""

import numpy as np

CLASSES = 10  # at most, of one image: heads of masks take the longer the more there are


def patches(num_classes: int, shape: tuple[int, int, int]) -> np.ndarray:
    """[b 8h 8w] labels of images, for a shape [b h w] of patches: ten classes of each image, as photos have."""
    rng = np.random.default_rng(0)
    of_image = [rng.permutation(num_classes)[:CLASSES] for _ in range(shape[0])]
    labels = np.stack([classes[rng.integers(0, len(classes), shape[1:])] for classes in of_image])
    return labels.astype(np.uint8).repeat(8, 1).repeat(8, 2)
