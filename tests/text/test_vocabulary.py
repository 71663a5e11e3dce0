"""Names of classes, and what a text encoder makes of them."""

import jax
import numpy as np
import pytest

from jaxseg.data.datasets import DATASETS
from jaxseg.errors import ConfigError
from jaxseg.models import build_model
from jaxseg.models.text_encoder import CLIPTextEncoder
from jaxseg.text.templates import TEMPLATES, find_templates
from jaxseg.text.vocabulary import VOCABULARIES, class_names, embed_classes, with_vocabulary
from small_models import MERGES, model_config, random_variables, san_config

SMALL = san_config()
IMAGES = np.zeros((1, 64, 64, 3), np.float32)


def with_text(**fields):
    return build_model(san_config(text_encoder=SMALL["text_encoder"] | fields))


@pytest.fixture(scope="module")
def variables():
    return random_variables(with_text(), IMAGES)


def test_names_of_data_sets():
    assert set(VOCABULARIES.values()) <= set(DATASETS)
    assert len(class_names(CLIPTextEncoder("coco-stuff164k"))) == 171
    assert len(class_names(CLIPTextEncoder("pascal_context"))) == 59
    voc = class_names(CLIPTextEncoder("voc"))
    assert (len(voc), voc[0]) == (20, "aeroplane")  # without the background
    assert class_names(CLIPTextEncoder(vocabulary=["background", "cat"])) == ("background", "cat")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary": None}, "text_encoder needs one of dataset_name and vocabulary"),
        ({"dataset_name": "voc"}, "text_encoder needs one of dataset_name and vocabulary"),
        ({"vocabulary": None, "dataset_name": "coco-stuf"}, "dataset_name='coco-stuf' is not known. Did you mean"),
        ({"vocabulary": ("a", "b")}, "has 2 names of classes .* but model.decode_head.num_classes=5"),
        ({"templates": "vlid"}, "templates='vlid' is not known. Did you mean vild"),
        ({"templates": ("a photo",)}, "needs one {} for the name of the class"),
        ({"total_vocab_size": 1000}, "total_vocab_size=1000: CLIP has 49408"),
    ],
)
def test_fields_that_do_not_fit(fields, message, variables):
    with pytest.raises(ConfigError, match=message):
        with_vocabulary(with_text(**fields), variables, MERGES)


def test_names_must_have_been_read(variables):
    with pytest.raises(ConfigError, match="text_encoder has not read the names of the classes"):
        jax.eval_shape(with_text().apply, variables, IMAGES)


def test_names_are_read_once(variables):
    model = with_vocabulary(with_text(), variables, MERGES)
    assert with_vocabulary(model, None, "no such file") is model


def test_models_without_names():
    model = build_model(model_config())
    assert with_vocabulary(model, None) is model


def test_embeddings_are_means_over_templates(variables):
    """Each of length 1 before and after; whatever else is in the vocabulary."""
    model = with_text(merges=str(MERGES))
    both = embed_classes(model, variables, ["road", "potted plant"])
    np.testing.assert_allclose(embed_classes(model, variables, ["potted plant"]), both[1:], rtol=1e-5)
    single = [
        embed_classes(with_text(templates=(template,)), variables, ["road"], MERGES) for template in TEMPLATES["vild"]
    ]
    mean = np.mean(single, axis=0)
    np.testing.assert_allclose(both[:1], mean / np.linalg.norm(mean), rtol=1e-5)


def test_templates():
    assert find_templates("none") == ("{}",)
    assert {name: len(TEMPLATES[name]) for name in ("imagenet", "vild")} == {"imagenet": 80, "vild": 14}
    assert all(template.count("{}") == 1 for templates in TEMPLATES.values() for template in templates)
