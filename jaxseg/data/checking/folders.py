"""Rules of folders: files without a partner, and files that nothing reads."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from jaxseg.data.checking.findings import Finding
from jaxseg.data.sources import Source

_PICTURE = re.compile(r"\.(apng|avif|bmp|dib|gif|hei[cf]|jfif|jp2|jpe?g?|jxl|p[bgnp]m|png|tga|tiff?|webp)")
_LOSSY = re.compile(r"\.(jfif|jpe?g?)")


@dataclass
class _Folder:
    """What records say of one folder: whose it is, the names of its files that are read, their suffixes."""

    part: str
    stems: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    suffixes: set[str] = field(default_factory=set)


def folder_findings(
    records: Mapping[str, Sequence[tuple[str, str | None, str | None]]], unpaired: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """What is wrong with the files around the records of all parts.

    Args:
        records: name, image and mask of each record of a part; names are paths relative to the folders, without
            suffix.
        unpaired: images of a part that have no mask.
    """
    images, masks, partner = {}, {}, {}
    for part, rows in records.items():
        for name, image, mask in rows:
            folder = _note(images, part, name, image)
            labels = _note(masks, part, name, mask)
            if folder and labels:
                partner[labels] = folder
    listings = {folder: _listing(folder) for folder in {*images, *masks}}
    found, taken = [], set()
    for part, paths in unpaired.items():
        found += _unpaired(part, paths, images, {image: label for label, image in partner.items()}, listings, taken)
    for folder, known in masks.items():
        found += _masks_alone(folder, known, images.get(partner.get(folder)), listings, partner.get(folder), taken)
    for folder, known in {**images, **{f: k for f, k in masks.items() if f not in images}}.items():
        own = known.files | (masks[folder].files if folder in masks else set())
        stems = known.stems | {PurePath(os.path.relpath(path, folder)).with_suffix("").as_posix() for path in taken}
        if folder in partner:  # images that no list names have their masks, too
            stems |= {stem for stem, _ in _stems(listings[partner[folder]], images[partner[folder]].suffixes)}
        found += _left_over(folder, known, own, stems, listings[folder], taken)
    return found


def file_records(source: Source) -> list[tuple[str, str | None, str | None]] | None:
    """Name, image and mask of all records of a source that lists them; None where it does not."""
    if getattr(source, "repeats", None):  # of several
        inner = [file_records(one) for one in source.sources]
        if any(rows is None for rows in inner):
            return None
        return [row for rows, count in zip(inner, source.repeats, strict=True) for row in rows * count]
    stems, images = getattr(source, "stems", None), getattr(source, "image_paths", None)
    if stems is None or images is None or len(images) != len(source):
        return None
    masks = getattr(source, "label_paths", None) or [None] * len(images)
    return list(zip(stems, images, masks, strict=True))


def _note(folders: dict[str, _Folder], part: str, name: str, path: str | None) -> str | None:
    """Notes a file with the folder it is in, if its path ends as its name does."""
    at = -1 if path is None else path.rfind(f"/{name}")
    if at < 0 or "/" in path[at + 1 + len(name) :]:
        return None
    folder = folders.setdefault(path[:at], _Folder(part))
    folder.stems.add(name)
    folder.files.add(path[at + 1 :])
    folder.suffixes.add(path[at + 1 + len(name) :].lower())
    return path[:at]


def _listing(folder: str) -> list[str]:
    """Files below a folder, relative to it; hidden ones are nobody's concern."""
    files = []
    for base, names, leaves in os.walk(folder, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith("."))
        inner = os.path.relpath(base, folder)
        files += [leaf if inner == "." else f"{inner}/{leaf}" for leaf in leaves if not leaf.startswith(".")]
    return sorted(files)


def _unpaired(
    part: str,
    paths: Sequence[str],
    images: Mapping[str, _Folder],
    labels: Mapping[str, str],
    listings: Mapping[str, list[str]],
    taken: set[str],
) -> Iterable[Finding]:
    """Images without a mask; or with one that has another suffix."""
    others: dict[str, dict[str, str]] = {}
    for path in paths:
        folder = next((folder for folder in images if path.startswith(f"{folder}/")), None)
        label_dir = labels.get(folder)
        if label_dir is not None and label_dir not in others:
            others[label_dir] = {PurePath(file).with_suffix("").as_posix(): file for file in listings[label_dir]}
        stem = PurePath(os.path.relpath(path, folder)).with_suffix("").as_posix() if folder else ""
        file = others.get(label_dir, {}).get(stem)
        suffix = PurePath(file).suffix.lower() if file else ""
        if not _PICTURE.fullmatch(suffix):
            yield Finding("image_without_mask", part, path, f"nothing of its name in {label_dir or 'the masks'}")
            continue
        taken.add(os.path.join(label_dir, file))
        kind = "lossy_mask" if _LOSSY.fullmatch(suffix) else "odd_suffix"
        yield Finding(kind, part, os.path.join(label_dir, file), f"ends in {suffix}, its image is left out")


def _masks_alone(
    folder: str,
    known: _Folder,
    images: _Folder | None,
    listings: Mapping[str, list[str]],
    image_dir: str | None,
    taken: set[str],
) -> Iterable[Finding]:
    """Masks whose image is not there; those of another split that share the folder have theirs."""
    if images is None or image_dir == folder:
        return
    there = {stem for stem, _ in _stems(listings[image_dir], images.suffixes)}
    for stem, file in _stems(listings[folder], known.suffixes):
        path = os.path.join(folder, file)
        if stem not in there and path not in taken:
            taken.add(path)
            yield Finding("mask_without_image", known.part, path, f"no image {stem} in {image_dir}")


def _stems(files: Iterable[str], suffixes: set[str]) -> Iterable[tuple[str, str]]:
    """Stems and files of those that end in one of the suffixes."""
    longest = sorted(suffixes, key=len, reverse=True)
    for file in files:
        suffix = next((end for end in longest if file.lower().endswith(end)), None)
        if suffix is not None:
            yield file[: len(file) - len(suffix)], file


def _left_over(
    folder: str, known: _Folder, own: set[str], stems: set[str], listing: Sequence[str], taken: set[str]
) -> Iterable[Finding]:
    """Pictures with another suffix, and files that are no pictures, one finding a suffix.

    What has the name of a record and more, as `x_instances.png` beside `x_labels.png`, belongs to it.
    """
    others, examples = Counter(), {}
    for file in listing:
        path, suffix = os.path.join(folder, file), PurePath(file).suffix.lower()
        if file in own or path in taken or any(file.lower().endswith(end) for end in known.suffixes):
            continue
        if any(file[:length] in stems for length in range(len(file), 0, -1)):
            continue
        if _PICTURE.fullmatch(suffix):
            yield Finding(
                "odd_suffix", known.part, path, f"ends in {suffix}, read are {', '.join(sorted(known.suffixes))}"
            )
        else:
            others[suffix] += 1
            examples.setdefault(suffix, path)
    for suffix, count in others.items():
        value = f"{count} file{'s' if count > 1 else ''} that end{'' if count > 1 else 's'} in {suffix or 'no suffix'}"
        yield Finding("other_file", known.part, examples[suffix], value)
