"""What a check can find: a table of kinds, each with its severity and its remedy."""

from collections.abc import Iterable
from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")
"""From the worst. Errors end a training run or spoil what it learns; notes are worth knowing."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        severity: one of `SEVERITIES`.
        title: what is wrong, in a few words.
        fix: what to do about it, where the finding says nothing more exact.
    """

    severity: str
    title: str
    fix: str


# The order is that of reports, within a severity.
KINDS: dict[str, Kind] = {
    "part": Kind("error", "part that cannot be read", "Correct the field of config.data that is named."),
    "unreadable": Kind(
        "error", "unreadable file", "Copy or download it again, or remove it together with its partner."
    ),
    "image_without_mask": Kind(
        "error", "image without mask", "Add the mask under the image's name, or list the images to use in split_file."
    ),
    "lossy_mask": Kind(
        "error",
        "mask in a lossy format",
        "Export it again as PNG from the original annotation: JPEG changes the numbers at every edge.",
    ),
    "colour_mask": Kind(
        "error",
        "colour picture as a mask",
        "Set data.mask_colors, or store class indices in one channel.",
    ),
    "size_mismatch": Kind(
        "error",
        "mask of another size than its image",
        "Give it its own mask; resize masks with nearest neighbours only.",
    ),
    "values": Kind("error", "number that is no class", "Give every stored number its class with data.label_map."),
    "binary_255": Kind("error", "mask of 0 and 255", "Set data.masks=binary (or data.label_map = {255: 1})."),
    "class_count": Kind("error", "number of class names", "Give one name for each class in data.classes."),
    "leak": Kind("error", "same picture in two parts", "Keep it in one part: scores on seen pictures say nothing."),
    "mixed_channels": Kind(
        "error", "images of several numbers of channels", "Convert them to one form, or leave the odd ones out."
    ),
    "batch": Kind("error", "transforms that cannot make batches", "Add a RandomCrop and a Pad to the transforms."),
    "loading": Kind("error", "record that cannot be loaded", "Correct the file, or the transforms that load it."),
    "mask_without_image": Kind("warning", "mask without image", "Add the image, or remove the mask: nothing reads it."),
    "odd_suffix": Kind(
        "warning",
        "picture that is left out",
        "Add its suffix to data.image_suffix or data.label_suffix, or convert it.",
    ),
    "near_leak": Kind(
        "warning", "nearly the same picture in two parts", "Keep both in one part, if they are copies or one scene."
    ),
    "duplicate": Kind("warning", "picture that is there twice", "Remove one: it counts double."),
    "shared_mask": Kind("warning", "one mask for several images", "Look at both: one of them has another's mask."),
    "exif": Kind(
        "warning",
        "image that its EXIF orientation turns",
        "Turn the image itself (mogrify -auto-orient), or load it with color_type='color_ignore_orientation'.",
    ),
    "form": Kind("warning", "image of another form than most", "Convert it to the form of the others."),
    "small_image": Kind(
        "warning", "image smaller than the crop", "Reduce crop_size, or leave it out: it is padded in every batch."
    ),
    "off_by_one": Kind(
        "warning", "classes may be off by one", "Compare a mask with its picture: contact sheets show it."
    ),
    "absent_class": Kind(
        "warning", "class without a pixel", "Correct data.classes or data.label_map, or add pictures of it."
    ),
    "empty_mask": Kind(
        "warning", "mask without a label", "Annotate it or leave it out: nothing can be learned from it."
    ),
    "background_only": Kind("note", "mask of background only", "Fine if so meant; many of them slow training down."),
    "dominant_class": Kind(
        "note", "class that dominates", "Look at its IoU and not at aAcc; a Dice loss or class weights help the others."
    ),
    "near_duplicate": Kind("note", "nearly the same picture twice", "Fine for frames of a video; else remove one."),
    "same_name": Kind("note", "same name in two parts", "Fine if every part numbers its pictures by itself."),
    "other_file": Kind("note", "file that is no picture", "Fine if it belongs there: nothing reads it."),
}


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: key of `KINDS`.
        part: "train", "val" or "test"; of a leak the part that should not have the picture.
        file: the path, or None where the whole part is meant.
        value: what was found, such as a size or the numbers that are no class.
        fix: what to do.
        severity: of the kind, unless it is milder here.
        other: the file that it was compared with.
    """

    kind: str
    part: str
    file: str | None
    value: str
    fix: str = ""
    severity: str = ""
    other: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fix", self.fix or KINDS[self.kind].fix)
        object.__setattr__(self, "severity", self.severity or KINDS[self.kind].severity)

    @property
    def title(self) -> str:
        """What is wrong, in a few words."""
        return KINDS[self.kind].title


_ORDER = {kind: place for place, kind in enumerate(KINDS)}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """By severity, then in the order of `KINDS`, part and file."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), _ORDER[f.kind], f.part, f.file or ""))


def groups(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings that say the same of several files, worst first: one row of a report each."""
    found: dict[tuple[str, ...], list[Finding]] = {}
    for finding in worst_first(findings):
        found.setdefault((finding.severity, finding.kind, finding.part, finding.fix), []).append(finding)
    return list(found.values())
