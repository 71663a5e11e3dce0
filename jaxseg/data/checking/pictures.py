"""Rules of images: their form, their sizes against the transforms, and pictures that are there more than once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxseg.data.checking.findings import Finding
from jaxseg.data.checking.look import Look
from jaxseg.data.transforms import Pipeline, Transform
from jaxseg.data.transforms.base import Size
from jaxseg.data.transforms.geometric import RandomCrop
from jaxseg.data.transforms.loading import LoadImage
from jaxseg.data.transforms.resize import RandomResizeCrop

_NEAR_BITS = 8  # of 64 bits of the hash that may differ in near copies
_NEAR = 0.998  # correlation of their thumbs
_FLAT = 2.0  # grey levels; thumbs that vary less are alike without being copies
_BLOCK = 1024  # images that are compared with all others at once
_MOST = 200_000  # candidates of one block


def picture_findings(part: str, pipeline: Pipeline, looks: Sequence[Look]) -> list[Finding]:
    """All that is wrong with the images of one part by themselves."""
    sizes = Counter(look.size for look in looks if look.size)
    problem = batching_problem(pipeline, sizes)
    found = [Finding("batch", part, None, *problem)] if problem else []
    return [*found, *_forms(part, looks), *_turned(part, pipeline, looks), *_small(part, pipeline, looks)]


def batching_problem(pipeline: Pipeline, sizes: Counter[Size]) -> tuple[str, str] | None:
    """Whether a training pipeline gives images of more than one size, or less than its crop; and what to do."""
    if not pipeline.random or not sizes:
        return None
    ends = {end for size in sizes for end in pipeline.sizes(size)}
    crop = crop_size(pipeline)
    if len(ends) == 1 and (crop is None or not _less(min(ends), crop)):
        return None
    low = min(ends, key=lambda end: end[0] * end[1])
    high = max(ends, key=lambda end: end[0] * end[1])
    pad = "{'type': 'Pad', 'size': " + f"{crop or high}" + "}"
    if crop is None:
        return (
            f"after the transforms images are between {low} and {high} (h, w), but a batch needs one size",
            f"add a RandomCrop, a Resize without keep_ratio, or {pad} at the end.",
        )
    before = _before_crop(pipeline)
    small = [size for size in sizes if _less(before.sizes(size)[0], crop)]
    never = all(_less(before.sizes(size)[1], crop) for size in sizes)
    which = "every image" if never else f"{sum(sizes[s] for s in small)} of {sum(sizes.values())} images"
    example = small[0] if small else next(iter(sizes))
    smallest, largest = before.sizes(example)
    reach = "is resized to" if smallest == largest else f"is resized to between {smallest} and"
    return (
        f"crop_size {crop} (h, w) is larger than {which}{'' if never else ' can be'} after resizing: one of "
        f"{example} {reach} {largest}",
        f"Add {pad} after the crop (with pad_val = the mean colour), or reduce crop_size.",
    )


def crop_size(pipeline: Pipeline) -> Size | None:
    """The size of the first random crop, if there is one."""
    return next((size for size in map(_crop_of, pipeline.steps) if size is not None), None)


def _less(size: Size, crop: Size) -> bool:
    return size[0] < crop[0] or size[1] < crop[1]


def _crop_of(step: Transform) -> Size | None:
    if isinstance(step, RandomResizeCrop):
        return step.crop.crop_size
    return step.crop_size if isinstance(step, RandomCrop) else None


def _before_crop(pipeline: Pipeline) -> Pipeline:
    steps: list[Transform] = []
    for step in pipeline.steps:
        if isinstance(step, RandomCrop):
            break
        steps.append(step.resize if isinstance(step, RandomResizeCrop) else step)
        if isinstance(step, RandomResizeCrop):
            break
    return Pipeline(tuple(steps))


def _forms(part: str, looks: Sequence[Look]) -> Iterable[Finding]:
    """Images whose channels or bits are others than most images'."""
    channels = Counter(look.channels for look in looks if look.channels)
    forms = Counter(look.header.form for look in looks if look.header is not None and look.channels)
    found = []
    for look in looks:
        if look.channels and look.channels != channels.most_common(1)[0][0]:
            value = f"{look.channels} channels, most have {channels.most_common(1)[0][0]}"
            found.append(Finding("mixed_channels", part, look.image_path or look.name, value))
        elif look.header is not None and look.channels and look.header.form != forms.most_common(1)[0][0]:
            value = f"{look.header.form}, most have {forms.most_common(1)[0][0]}"
            found.append(Finding("form", part, look.image_path, value))
    return found


def _turned(part: str, pipeline: Pipeline, looks: Sequence[Look]) -> Iterable[Finding]:
    """Images that are turned on loading, and their masks are not."""
    if any(isinstance(step, LoadImage) and step.color_type != "color" for step in pipeline.steps):
        return []
    return [
        Finding("exif", part, look.image_path, f"EXIF orientation {look.header.orientation}, its mask stays as it is")
        for look in looks
        if look.header is not None and look.header.orientation > 1 and look.label_path is not None
    ]


def _small(part: str, pipeline: Pipeline, looks: Sequence[Look]) -> Iterable[Finding]:
    """Images that can't fill the crop however they are resized."""
    crop = crop_size(pipeline)
    if crop is None:
        return []
    before = _before_crop(pipeline)
    small = {size for size in {look.size for look in looks if look.size} if _less(before.sizes(size)[1], crop)}
    found = []
    for look in looks:
        if look.size in small:
            largest = before.sizes(look.size)[1]
            resized = f", resized to {largest[0]}x{largest[1]} at most" if largest != look.size else ""
            value = f"{look.size[0]}x{look.size[1]}{resized}, crop {crop[0]}x{crop[1]}"
            found.append(Finding("small_image", part, look.image_path or look.name, value))
    return found


def copy_findings(parts: Mapping[str, Sequence[Look]]) -> list[Finding]:
    """Pictures that are there more than once, within a part and in two parts; the first part keeps its own.

    Equal files have equal hashes. Near copies (saved again, scaled, brighter) have nearly equal gradient hashes, of
    64 bits, and thumbs that correlate.
    """
    first: dict[bytes, tuple[str, Look]] = {}
    found, single = [], []
    for part, looks in parts.items():
        for look in looks:
            if not look.digest:
                continue
            part0, look0 = first.setdefault(look.digest, (part, look))
            if look0 is look:
                single.append((part, look))
                continue
            kind = "duplicate" if part == part0 else "leak"
            listed = part != part0 and _file(look) == _file(look0)
            value = f"{part0} lists this file, too" if listed else _same(look0, part0, part)
            found.append(Finding(kind, part, _file(look), value, other=_file(look0)))
    near = _near_copies(single)
    known = {finding.file for finding in found} | {finding.file for finding in near}
    return found + near + _same_names(parts, known)


def _file(look: Look) -> str:
    return look.image_path or look.name


def _same(other: Look, part0: str, part: str) -> str:
    return f"the same as {_file(other)}" + ("" if part == part0 else f" of {part0}")


def _near_copies(images: Sequence[tuple[str, Look]]) -> list[Finding]:
    images = [(part, look) for part, look in images if look.thumb is not None and look.thumb.std() > _FLAT]
    if len(images) < 2:
        return []
    thumbs = np.stack([look.thumb for _, look in images]).astype(np.float32)
    hashes = gradient_hash(thumbs)
    flat = thumbs.reshape(len(thumbs), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    nearest: dict[int, int] = {}
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        # Only with those before: a pair is looked at once, and it is the later one that is reported.
        differing = np.bitwise_count(block[:, None] ^ hashes[None, : start + len(block)])
        later, earlier = np.nonzero(differing <= _NEAR_BITS)
        later = later + start
        keep = np.flatnonzero(earlier < later)[:_MOST]
        later, earlier = later[keep], earlier[keep]
        alike = np.einsum("ij,ij->i", flat[later], flat[earlier]) >= _NEAR
        for i, j in zip(later[alike].tolist(), earlier[alike].tolist(), strict=True):
            # A copy of another part is worth more than one of the same.
            if i not in nearest or (images[i][0] == images[nearest[i]][0] != images[j][0]):
                nearest[i] = j
    found = []
    for i, j in nearest.items():
        (part, look), (part0, look0) = images[i], images[j]
        kind, value = "near_duplicate" if part == part0 else "near_leak", f"nearly {_same(look0, part0, part)}"
        found.append(Finding(kind, part, _file(look), value, other=_file(look0)))
    return found


def gradient_hash(thumbs: np.ndarray) -> np.ndarray:
    """64 bits a picture: whether it grows brighter, to the right, between pairs of columns of its thumb.

    Args:
        thumbs: grey pictures [n 16 16].

    Returns:
        uint64 [n].
    """
    rows = thumbs[:, ::2].astype(np.float32) + thumbs[:, 1::2]
    bits = rows[:, :, ::2] < rows[:, :, 1::2]
    return np.packbits(bits.reshape(len(thumbs), 64), axis=1).view(np.uint64).ravel()


def _same_names(parts: Mapping[str, Sequence[Look]], known: set[str]) -> list[Finding]:
    names: dict[str, tuple[str, Look]] = {}
    found = []
    for part, looks in parts.items():
        for look in looks:
            part0, look0 = names.setdefault(look.name, (part, look))
            if part0 != part and _file(look) not in known:
                value = f"as {_file(look0)} of {part0}, another picture"
                found.append(Finding("same_name", part, _file(look), value, other=_file(look0)))
    return found
