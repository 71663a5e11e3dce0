"""Transforms of an MMSegmentation config, as ours."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxseg.data.transforms import NOT_NEEDED, TRANSFORMS, build_transforms
from jaxseg.data.transforms.albu import MissingPackage
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.mmseg.fields import Fields, tuples

READING = "how files are read is the machine's business"
# What the loader does without a transform.
PACKING = ("PackSegInputs", "DefaultFormatBundle", "ImageToTensor", "ToTensor", "Collect")
_AS_STORED = "images are kept as they are stored, and normalised in float32"
_MIXING = ("RandomMosaic",)


def mixing_fields(wrapper: Fields) -> list[Fields]:
    """The transforms of a MultiImageMixDataset, without those that it skips.

    Raises:
        ConfigError: One that mixes records is not the first: the others that it takes would have been through those
            before it here, and have not in the reference.
    """
    skipped = wrapper.items("skip_type_keys", None) or ()
    pipeline = [fields for fields in wrapper.sections("pipeline") if fields.peek("type") not in skipped]
    for fields in pipeline[1:]:
        if fields.peek("type") in _MIXING:
            raise ConfigError(f"{fields.where}: a {fields.peek('type')} must be the first of its pipeline here")
    return pipeline


def translate_transforms(pipeline: Sequence[Fields], reduce_zero_label: bool) -> tuple[dict[str, Any], ...]:
    """Transforms of the reference's, as ours.

    Args:
        pipeline: `type` and fields of each.
        reduce_zero_label: The data set's; a LoadAnnotations that says the same says nothing.

    Raises:
        ConfigError: A transform or a field of one has no counterpart here, or a value can't be.
    """
    translated: list[dict[str, Any]] = []
    for fields in pipeline:
        kind = fields.text("type")
        if kind in PACKING:
            fields.ignore_all_but((), "records carry what they need")
            fields.ignored[fields.where] = f"batches are put together without {kind}"
            continue
        if kind == "Compose":
            inner = fields.sections("transforms")
            fields.done(("transforms",))
            translated += translate_transforms(inner, reduce_zero_label)
            continue
        if kind in NOT_NEEDED:
            raise ConfigError(f"{fields.name('type')}={kind!r} has no counterpart here: {NOT_NEEDED[kind]}")
        if kind not in TRANSFORMS:
            raise ConfigError(
                f"{fields.name('type')}={kind!r} is not a transform of this version. {did_you_mean(kind, TRANSFORMS)}"
            )
        transforms = _transform(kind, fields, reduce_zero_label)
        try:
            build_transforms(transforms)
        except MissingPackage:
            pass  # a config can be read without what only training needs
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{fields.where}: {error}") from error
        translated += transforms
    return tuple(translated)


def _transform(kind: str, fields: Fields, reduce_zero_label: bool) -> list[dict[str, Any]]:
    """One transform of a known type; of ours it may take several."""
    fields.ignore(READING, "backend_args", "file_client_args", "ignore_empty")
    if kind in _HOLDING:
        return [_HOLDING[kind](fields, reduce_zero_label)]
    module = TRANSFORMS[kind]
    if module.__name__ in ("LoadImage", "LoadAnnotations"):
        fields.expect("imdecode_backend", "cv2", "pillow")
        fields.expect("to_float32", False)
    if module.__name__ == "LoadAnnotations":
        given = fields.flag("reduce_zero_label", None)
        out = {} if given in (None, reduce_zero_label) else {"reduce_zero_label": given}
        fields.done(("reduce_zero_label",))
        return [{"type": "LoadAnnotations", **out}]
    if kind in ("Resize", "RandomResize", "RandomChoiceResize"):
        fields.expect("backend", "cv2")
        fields.expect("interpolation", "bilinear")
        fields.ignore("there are no boxes to clip", "clip_object_border")
    if kind == "RandomFlip" and "prob" not in fields:
        raise ConfigError(f"{fields.name('prob')} is missing")
    own = _OWN[kind](fields) if kind in _OWN else [{}]
    *before, out = own
    out |= fields.rest()
    known = [field.name for field in dataclasses.fields(module) if field.init]
    for name in out:
        if name not in known:
            raise ConfigError(f"{fields.name(name)}={out[name]!r} has no counterpart here. {did_you_mean(name, known)}")
    return [*before, {"type": module.__name__, **out}]


def _reversed(value: Any) -> Any:
    """A colour of the reference's, blue first, as ours; one number is all channels'."""
    value = tuples(value)
    return value[::-1] if isinstance(value, tuple) else value


def _resize_type(fields: Fields) -> list[dict[str, Any]]:
    fields.expect("resize_type", "Resize")
    return [{}]


def _multiple(fields: Fields) -> list[dict[str, Any]]:
    fields.expect("interpolation", None, "bilinear")
    return [{}]


def _choices(fields: Fields) -> list[dict[str, Any]]:
    """The scales of a RandomChoiceResize: a list has several, and anything else is one."""
    scales = fields.take("scales")
    return [{"scales": tuples(scales) if isinstance(scales, list) else (scales,)}]


def _pad(fields: Fields) -> list[dict[str, Any]]:
    """Pad: its size is (width, height) in the reference and (height, width) here; its colours are BGR there."""
    fields.expect("padding_mode", "constant")
    fields.expect("pad_to_square", False)
    size, divisor = fields.pair("size", None), fields.whole("size_divisor", None)
    value = fields.take("pad_val", 0)
    values = Fields(value if isinstance(value, Mapping) else {"img": value}, fields.name("pad_val"), fields.ignored)
    image, label = _reversed(values.take("img", 0)), values.whole("seg", 255, least=0)
    values.done(("img", "seg"))
    target = {} if size is None else {"size": size[::-1]}
    target |= {} if divisor is None else {"size_divisor": divisor}
    return [{**target, "pad_val": image, "seg_pad_val": label}]


def _center_crop(fields: Fields) -> list[dict[str, Any]]:
    """CenterCrop: its size is (width, height) in the reference; what it pads before is a Pad here."""
    size = fields.pair("crop_size")[::-1]
    fields.ignore("there are no boxes to clip", "clip_object_border")
    padding = fields.section("pad_cfg", {"type": "Pad"})
    if not fields.flag("auto_pad", False):
        padding.ignore_all_but((), "nothing is padded without auto_pad")
        return [{"crop_size": size}]
    padding.expect("type", "Pad")
    padding.ignore("the crop's size is what is padded to", "size", "size_divisor")
    pad = _pad(padding)[0]
    padding.done()
    return [{"type": "Pad", "size": size, **pad}, {"crop_size": size}]


def _rotate(fields: Fields) -> list[dict[str, Any]]:
    """RandomRotate: of one number OpenCV fills the first channel, blue, and leaves the others black."""
    value = _reversed(fields.take("pad_val", 0))
    return [{"pad_val": value if isinstance(value, tuple) or not value else (0, 0, value)}]


def _rot_flip(fields: Fields) -> list[dict[str, Any]]:
    return [{"seg_interpolation": "bilinear"}]


def _cut_out(fields: Fields) -> list[dict[str, Any]]:
    return [{"fill_in": _reversed(fields.take("fill_in"))}] if "fill_in" in fields else [{}]


def _gray(fields: Fields) -> list[dict[str, Any]]:
    """RGB2Gray: its weights are those of blue, green and red there."""
    return [{"weights": _reversed(fields.take("weights", (0.299, 0.587, 0.114)))}]


def _grayscale(fields: Fields) -> list[dict[str, Any]]:
    fields.expect("color_format", "bgr", "rgb")
    if not fields.flag("keep_channels", False):
        raise ConfigError(
            f"{fields.name('keep_channels')}=False has no counterpart here, but True: batches need one kind"
        )
    return [{"channel_weights": _reversed(fields.take("channel_weights", (1.0, 1.0, 1.0)))}]


def _mosaic(fields: Fields) -> list[dict[str, Any]]:
    return [{"pad_val": _reversed(fields.take("pad_val"))}] if "pad_val" in fields else [{}]


def _albu(fields: Fields) -> list[dict[str, Any]]:
    fields.expect("keymap", None, {"img": "image", "gt_seg_map": "mask"}, {})
    fields.ignore("arrays know their shape", "update_pad_shape")
    return [{}]


def _concat(fields: Fields) -> list[dict[str, Any]]:
    keys = fields.items("input_keys", ("img", "img2"))
    if keys not in (("img", "img2"), ("img2", "img")):
        raise ConfigError(f"{fields.name('input_keys')}={keys!r} must be 'img' and 'img2'")
    return [{} if keys[0] == "img" else {"second_first": True}]


def _as_stored(fields: Fields) -> list[dict[str, Any]]:
    fields.ignore(_AS_STORED, "to_float32")
    return [{}]


def _float32(fields: Fields) -> list[dict[str, Any]]:
    fields.expect("to_float32", True)
    return [{}]


def _labels(fields: Fields) -> list[dict[str, Any]]:
    fields.ignore("labels are whole numbers", "to_float32")
    return [{}]


# What is otherwise in a transform of the reference's than its fields say; all others have the same fields.
_OWN: dict[str, Callable[[Fields], list[dict[str, Any]]]] = {
    "Albu": _albu,
    "CenterCrop": _center_crop,
    "ConcatCDInput": _concat,
    "LoadBiomedicalAnnotation": _labels,
    "LoadBiomedicalImageFromFile": _float32,
    "LoadDepthAnnotation": _float32,
    "LoadMultipleRSImageFromFile": _as_stored,
    "LoadSingleRSImageFromFile": _as_stored,
    "Pad": _pad,
    "RGB2Gray": _gray,
    "RandomChoiceResize": _choices,
    "RandomCutOut": _cut_out,
    "RandomGrayscale": _grayscale,
    "RandomMosaic": _mosaic,
    "RandomResize": _resize_type,
    "RandomRotFlip": _rot_flip,
    "RandomRotate": _rotate,
    "ResizeToMultiple": _multiple,
}


def _apply(fields: Fields, reduce_zero_label: bool) -> dict[str, Any]:
    transforms = translate_transforms(fields.sections("transforms"), reduce_zero_label)
    out = {"type": "RandomApply", "transforms": transforms, "prob": fields.number("prob", 0.5)}
    fields.done(("transforms", "prob"))
    return out


def _choice(fields: Fields, reduce_zero_label: bool) -> dict[str, Any]:
    lists, where = fields.take("transforms"), fields.name("transforms")
    if not isinstance(lists, list | tuple):
        raise ConfigError(f"{where}={lists!r} must be a list of lists of transforms")
    transforms = []
    for i, item in enumerate(lists):
        several = item if isinstance(item, list | tuple) else (item,)
        inner = [Fields(one, f"{where}[{i}][{k}]", fields.ignored) for k, one in enumerate(several)]
        transforms.append(translate_transforms(inner, reduce_zero_label))
    prob = fields.items("prob", None)
    fields.done(("transforms", "prob"))
    return {"type": "RandomChoice", "transforms": tuple(transforms)} | ({} if prob is None else {"prob": prob})


# Those that hold others.
_HOLDING: dict[str, Callable[[Fields, bool], dict[str, Any]]] = {"RandomApply": _apply, "RandomChoice": _choice}
