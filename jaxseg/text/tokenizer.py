"""CLIP's tokenizer: byte pair encoding of text in lower case (Radford et al. 2021, "CLIP").

Its table of merges is not part of this package. It comes from a file that is named, or from an installed package.
"""

import functools
import gzip
import html
import importlib.util
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jaxseg.errors import ConfigError

TABLE = "bpe_simple_vocab_16e6.txt.gz"
# Packages that have the table, and where.
PACKAGES = {"open_clip": TABLE, "clip": TABLE, "mmseg": f"utils/{TABLE}"}
MERGES = 49152 - 256 - 2  # of the table's lines after the first, those that count
BYTES = 256
START, END = 2 * BYTES + MERGES, 2 * BYTES + MERGES + 1
END_OF_WORD = "</w>"

_CONTRACTION = re.compile("'(?:s|t|re|ve|m|ll|d)")


class Tokenizer:
    """Turns text into numbers of tokens.

    Args:
        path: The table of merges, gzipped or plain; None: that of an installed package.

    Raises:
        ConfigError: There is none, or the file is no such table.
    """

    def __init__(self, path: str | Path | None = None):
        path = find_merges() if path is None else Path(path)
        lines = _read(path)[1 : MERGES + 1]
        if len(lines) < MERGES:
            raise ConfigError(f"{path} is not CLIP's table of merges: it has {len(lines)} lines instead of {MERGES}")
        self._ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
        self._letters = _letters()
        symbols = [*self._letters.values(), *(letter + END_OF_WORD for letter in self._letters.values())]
        symbols += ["".join(line.split()) for line in lines]
        self._numbers = {symbol: number for number, symbol in enumerate(symbols)}

    def __call__(self, texts: Sequence[str], length: int = 77) -> Int[np.ndarray, "n length"]:
        """Tokens of each text between START and END, zeros after them; what is too long is cut."""
        tokens = np.zeros((len(texts), length), np.int32)
        for row, text in zip(tokens, texts, strict=True):
            found = [START, *self.encode(text)][: length - 1]
            row[: len(found) + 1] = [*found, END]
        return tokens

    def encode(self, text: str) -> list[int]:
        """Numbers of the tokens of a text."""
        text = html.unescape(html.unescape(unicodedata.normalize("NFC", text))).lower()
        return [number for word in split_words(text) for number in self._encode_word(word)]

    def _encode_word(self, word: str) -> list[int]:
        """Joins the neighbours that come first in the table, until none does."""
        *letters, last = (self._letters[byte] for byte in word.encode())
        symbols = [*letters, last + END_OF_WORD]
        while pairs := set(itertools.pairwise(symbols)) & self._ranks.keys():
            symbols = _join(symbols, min(pairs, key=self._ranks.__getitem__))
        return [self._numbers[symbol] for symbol in symbols]


@functools.lru_cache(maxsize=4)
def tokenizer(path: str | Path | None = None) -> Tokenizer:
    """The tokenizer of a table, which is read once."""
    return Tokenizer(path)


def find_merges() -> Path:
    """The table of merges of an installed package; none of them is imported.

    Raises:
        ConfigError: There is none; says what to do.
    """
    for package, name in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (path := Path(folder, name)).is_file():
                return path
    raise ConfigError(
        f"Text needs CLIP's table of merges, which no installed package has. Download {TABLE} from "
        "github.com/openai/CLIP (folder clip) and give its path as model.text_encoder.merges, or install one of "
        f"{', '.join(PACKAGES)} (open_clip is open_clip_torch)."
    )


def split_words(text: str) -> Iterator[str]:
    """Runs of letters, single digits, runs of other signs, and endings such as "'s"; white space parts them."""
    at = 0
    while at < len(text):
        if found := _CONTRACTION.match(text, at):
            end = found.end()
        else:
            kind, end = _kind(text[at]), at + 1
            while kind in "LO" and end < len(text) and _kind(text[end]) == kind:
                end += 1
        if not text[at].isspace():
            yield text[at:end]
        at = end


def _kind(sign: str) -> str:
    """L: a letter, N: a number, S: a space, O: anything else."""
    category = unicodedata.category(sign)[0]
    return "S" if sign.isspace() else category if category in "LN" else "O"


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    joined, at = [], 0
    while at < len(symbols):
        step = 2 if tuple(symbols[at : at + 2]) == pair else 1
        joined.append("".join(symbols[at : at + step]))
        at += step
    return joined


def _letters() -> dict[int, str]:
    """A printable letter for every byte, in the order of their numbers: those that have one come first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(BYTES) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(BYTES + i) for i, byte in enumerate(others)}


def _read(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        return content.decode().split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read as CLIP's table of merges: {error}") from error
