"""Sentences that names of classes are put into, before a text encoder sees them."""

from collections.abc import Sequence

from jaxseg.errors import ConfigError, did_you_mean

_VILD = (
    "a photo of a {}.|This is a photo of a {}|There is a {} in the scene|There is the {} in the scene|"
    "a photo of a {} in the scene|a photo of a small {}.|a photo of a medium {}.|a photo of a large {}.|"
    "This is a photo of a small {}.|This is a photo of a medium {}.|This is a photo of a large {}.|"
    "There is a small {} in the scene.|There is a medium {} in the scene.|There is a large {} in the scene."
)
_IMAGENET = (
    "a bad photo of a {}.|a photo of many {}.|a sculpture of a {}.|a photo of the hard to see {}.|"
    "a low resolution photo of the {}.|a rendering of a {}.|graffiti of a {}.|a bad photo of the {}.|"
    "a cropped photo of the {}.|a tattoo of a {}.|the embroidered {}.|a photo of a hard to see {}.|"
    "a bright photo of a {}.|a photo of a clean {}.|a photo of a dirty {}.|a dark photo of the {}.|"
    "a drawing of a {}.|a photo of my {}.|the plastic {}.|a photo of the cool {}.|a close-up photo of a {}.|"
    "a black and white photo of the {}.|a painting of the {}.|a painting of a {}.|a pixelated photo of the {}.|"
    "a sculpture of the {}.|a bright photo of the {}.|a cropped photo of a {}.|a plastic {}.|"
    "a photo of the dirty {}.|a jpeg corrupted photo of a {}.|a blurry photo of the {}.|a photo of the {}.|"
    "a good photo of the {}.|a rendering of the {}.|a {} in a video game.|a photo of one {}.|a doodle of a {}.|"
    "a close-up photo of the {}.|a photo of a {}.|the origami {}.|the {} in a video game.|a sketch of a {}.|"
    "a doodle of the {}.|a origami {}.|a low resolution photo of a {}.|the toy {}.|a rendition of the {}.|"
    "a photo of the clean {}.|a photo of a large {}.|a rendition of a {}.|a photo of a nice {}.|"
    "a photo of a weird {}.|a blurry photo of a {}.|a cartoon {}.|art of a {}.|a sketch of the {}.|a embroidered {}.|"
    "a pixelated photo of a {}.|itap of the {}.|a jpeg corrupted photo of the {}.|a good photo of a {}.|"
    "a plushie {}.|a photo of the nice {}.|a photo of the small {}.|a photo of the weird {}.|the cartoon {}.|"
    "art of the {}.|a drawing of the {}.|a photo of the large {}.|a black and white photo of a {}.|the plushie {}.|"
    "a dark photo of a {}.|itap of a {}.|graffiti of the {}.|a toy {}.|itap of my {}.|a photo of a cool {}.|"
    "a photo of a small {}.|a tattoo of the {}."
)
# By the reference's names. Those of CLIP's authors for ImageNet (Radford et al. 2021), and those of ViLD (Gu et al.
# 2021); "none" is the bare name.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet": tuple(_IMAGENET.split("|")),
    "none": ("{}",),
    "vild": tuple(_VILD.split("|")),
}


def find_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of that name, or those that are given; "{}" in them stands for a class.

    Raises:
        ConfigError: The name is not known, or there is no "{}".
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            hint = did_you_mean(templates, TEMPLATES)
            raise ConfigError(f"model.text_encoder.templates={templates!r} is not known. {hint}")
        return TEMPLATES[templates]
    if not templates or not all(template.count("{}") == 1 for template in templates):
        raise ConfigError(f"model.text_encoder.templates={templates!r}: each needs one {{}} for the name of the class")
    return tuple(templates)
