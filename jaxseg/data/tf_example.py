"""`tf.train.Example`, the message that TensorFlow Datasets stores, read without TensorFlow.

The format of the wire: fields follow one another, each with a number and a kind; three levels deep, a field of an
example is a list of bytes, of floats or of whole numbers.
"""

from collections.abc import Iterator

import numpy as np

from jaxseg.errors import DataError

Feature = list[bytes] | np.ndarray
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FEATURES, _ENTRY, _KEY, _VALUE, _ITEMS = 1, 1, 1, 2, 1  # numbers of fields
_BYTES_LIST, _FLOAT_LIST, _INT_LIST = 1, 2, 3


def parse_example(content: bytes, where: str) -> dict[str, Feature]:
    """The features of an example: a list of bytes, or a float32 or int64 [n].

    Args:
        content: the serialized message.
        where: what it is, for errors.

    Raises:
        DataError: it is no such message, or cut short.
    """
    features = {}
    try:
        for _, entries in _fields(memoryview(content), _FEATURES):
            for _, entry in _fields(entries, _ENTRY):
                name = next((value for _, value in _fields(entry, _KEY)), b"")
                feature = next((value for _, value in _fields(entry, _VALUE)), memoryview(b""))
                features[bytes(name).decode()] = _feature(feature)
    except (IndexError, ValueError, TypeError) as error:
        raise DataError(f"{where} holds no example as TensorFlow Datasets writes it ({len(content)} bytes).") from error
    return features


def _feature(message: memoryview) -> Feature:
    for number, items in _fields(message):
        if number == _BYTES_LIST:
            return [bytes(value) for _, value in _fields(items, _ITEMS)]
        values = [value for _, value in _fields(items, _ITEMS)]
        if number == _FLOAT_LIST:
            return np.concatenate([np.frombuffer(value, "<f4") for value in values] or [np.zeros(0, np.float32)])
        if number == _INT_LIST:
            whole = [n for value in values for n in ([value] if isinstance(value, int) else _varints(value))]
            return np.array(whole, np.uint64).astype(np.int64)
    return []


def _fields(message: memoryview, wanted: int | None = None) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message with their numbers: a part of it, or a whole number; of one number if `wanted`.

    Raises:
        ValueError: it is not well-formed.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
        else:
            if kind == _BYTES:
                length, at = _varint(message, at)
            elif kind in (_FIXED32, _FIXED64):
                length = 4 if kind == _FIXED32 else 8
            else:
                raise ValueError(f"a field of kind {kind}")
            value, at = message[at : at + length], at + length
            if at > len(message):
                raise ValueError("cut short")
        if wanted is None or number == wanted:
            yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value
