"""What the names of a model's classes are to its text encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.data.datasets import DATASETS
from jaxseg.errors import ConfigError, did_you_mean
from jaxseg.models.layers.platform import jit
from jaxseg.models.text_encoder import ClassEmbeddings, normalise
from jaxseg.text.templates import find_templates
from jaxseg.text.tokenizer import tokenizer

# Data sets by the names that the reference has for their classes.
_NAMES = {
    "ADE20K": "ade ade20k",
    "BDD100K": "bdd100k",
    "Cityscapes": "cityscapes",
    "COCOStuff164k": "cocostuff cocostuff10k cocostuff164k coco-stuff coco-stuff10k coco-stuff164k coco_stuff "
    "coco_stuff10k coco_stuff164k",
    "iSAID": "isaid iSAID",
    "LIP": "LIP lip",
    "LoveDA": "loveda",
    "MapillaryV1": "mapillary_v1",
    "MapillaryV2": "mapillary_v2",
    "PascalContext59": "pcontext pascal_context voc2010",
    "PascalVOC12": "voc pascal_voc voc12 voc12aug",
    "Potsdam": "potsdam",
    "STARE": "stare STARE",
    "Vaihingen": "vaihingen",
}
VOCABULARIES = {name: row for row, names in _NAMES.items() for name in names.split()}


def with_vocabulary(model: nn.Module, variables: Mapping[str, Any], merges: str | Path | None = None) -> nn.Module:
    """The model after its text encoder has read the names of its classes, once; a model without one as it is.

    Args:
        model: A segmentor.
        variables: Its variables; those of the text encoder are used.
        merges: File of the tokenizer's table; None: `model.text_encoder.merges`, or that of an installed package.

    Raises:
        ConfigError: There is no such table, no such vocabulary, or it has another number of classes than the head.
    """
    text = getattr(model, "text_encoder", None)
    if text is None or text.embeddings is not None:
        return model
    names = class_names(text)
    count, wanted = len(names), model.final_head.num_classes
    if count != wanted:
        raise ConfigError(
            f"model.text_encoder has {count} names of classes (dataset_name={text.dataset_name!r}), but "
            f"model.decode_head.num_classes={wanted}"
        )
    embeddings = ClassEmbeddings(np.asarray(embed_classes(model, variables, names, merges)))
    return model.clone(text_encoder=text.clone(embeddings=embeddings))


def class_names(text_encoder: nn.Module) -> tuple[str, ...]:
    """The classes that a text encoder is told of; without one that is the background.

    Raises:
        ConfigError: It is told of none, twice, or of a data set that is not known.
    """
    name, vocabulary = text_encoder.dataset_name, text_encoder.vocabulary
    if (name is None) == (vocabulary is None):
        raise ConfigError("model.text_encoder needs one of dataset_name and vocabulary, which name the classes")
    if vocabulary is not None:
        return tuple(vocabulary)
    if name not in VOCABULARIES:
        raise ConfigError(f"model.text_encoder.dataset_name={name!r} is not known. {did_you_mean(name, VOCABULARIES)}")
    classes = tuple(DATASETS[VOCABULARIES[name]].classes)
    return classes[1:] if classes[0].lower() == "background" else classes


def embed_classes(
    model: nn.Module, variables: Mapping[str, Any], names: Sequence[str], merges: str | Path | None = None
) -> Float[Array, "classes c"]:
    """The mean of what a text encoder makes of a name in each of its templates, of length 1; errors as above."""
    text = model.text_encoder
    tokenize = tokenizer(merges or text.merges)
    tokens = np.stack(
        [tokenize([template.format(name) for name in names], text.context_length)
         for template in find_templates(text.templates)]
    )  # fmt: skip
    # What comes after a text's end changes nothing.
    tokens = tokens[:, :, : int(tokens.argmax(-1).max()) + 1]
    if tokens.max() >= text.total_vocab_size:
        raise ConfigError(f"model.text_encoder.total_vocab_size={text.total_vocab_size}: CLIP has {tokens.max() + 1}")
    params = {"params": {"text_encoder": variables["params"]["text_encoder"]}}
    encode = jit(lambda params, tokens: normalise(model.apply(params, tokens, method="encode_text")))
    total = sum(encode(params, part) for part in tokens)
    return normalise(jnp.asarray(total) / len(tokens))
