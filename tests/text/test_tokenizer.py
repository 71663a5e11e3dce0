"""Tokens of texts, as the reference's."""

import gzip

import numpy as np
import pytest

from jaxseg.errors import ConfigError
from jaxseg.text import tokenizer
from jaxseg.text.tokenizer import END, MERGES, START, Tokenizer, find_merges, split_words
from reference import FIXTURES, load_npz
from small_models import MERGES as TABLE


@pytest.fixture(scope="module")
def tokenize():
    return Tokenizer(TABLE)


def test_tokens(tokenize):
    meta, arrays = load_npz(FIXTURES / "text.npz")
    np.testing.assert_array_equal(tokenize(meta["texts"]), arrays["tokens"])


def test_long_texts_are_cut(tokenize):
    tokens = tokenize(["road " * 100, "road"], length=8)
    np.testing.assert_array_equal(tokens[0], [START, *tokens[0, 1:2].repeat(6), END])
    np.testing.assert_array_equal(tokens[1], [START, tokens[0, 1], END, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's  42 o'clock!?", ["it", "'s", "4", "2", "o", "'", "clock", "!?"]),
        ("wall-other(b)", ["wall", "-", "other", "(", "b", ")"]),
        ("under_score", ["under", "_", "score"]),
        ("!'s 'we'll", ["!'", "s", "'", "we", "'ll"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert list(split_words(text)) == words


def test_plain_and_zipped_tables(tokenize, tmp_path):
    path = tmp_path / "merges.txt"
    path.write_bytes(gzip.decompress(TABLE.read_bytes()))
    assert Tokenizer(path).encode("a photo of a road") == tokenize.encode("a photo of a road")


def test_tables_that_are_none(tmp_path):
    path = tmp_path / "merges.txt"
    with pytest.raises(ConfigError, match="can't be read as CLIP's table of merges"):
        Tokenizer(path)
    path.write_text("#version: 0.2\na b\n")
    with pytest.raises(ConfigError, match=f"it has 2 lines instead of {MERGES}"):
        Tokenizer(path)
    path.write_bytes(TABLE.read_bytes()[:100])
    with pytest.raises(ConfigError, match="can't be read as CLIP's table of merges"):
        Tokenizer(path)


def test_tables_of_installed_packages(tmp_path, monkeypatch):
    """A package is found without being imported."""
    monkeypatch.setattr(tokenizer, "PACKAGES", {"no_such_package": "x", "a_package": "data/table.gz"})
    with pytest.raises(ConfigError, match=r"model.text_encoder.merges, or install one of no_such_package, a_package"):
        find_merges()
    (tmp_path / "a_package" / "data").mkdir(parents=True)
    (tmp_path / "a_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="no installed package has"):
        find_merges()
    (tmp_path / "a_package" / "data" / "table.gz").write_bytes(TABLE.read_bytes())
    assert find_merges() == tmp_path / "a_package" / "data" / "table.gz"
