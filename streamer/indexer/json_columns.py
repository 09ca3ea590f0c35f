"""Values of vector events in JSON, many at once: what is in the vectors is read by its place, the rest as JSON.

A worker writes each number of a vector in the same width. Reading them as JSON would take most of the time in which an
index is restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from streamer.core.reading import MAX_DEPTH, read_json
from streamer.core.vectors import Matrix

_WIDTH: Final = 12  # of a number: a comma, a blank or minus, "0.", eight decimals
_WEIGHTS: Final = np.array([0, 0, 0, 0, *(10.0**power for power in range(7, -1, -1))])
_SCALE: Final = 1e8
_COMMA, _BLANK, _MINUS, _ZERO, _POINT = b", -0."
_GROUP: Final = 64  # vectors at a time: what is made of more would stay with the process
# Stands in for the vector. Where it is found there, and not in the rest, no second "vector" came behind. There is no
# float that equals it.
_MARK: Final = 10**17 + 1
_MARK_TEXT: Final = b"%d" % _MARK


def read_json_values(
    ids: Sequence[str], values: Sequence[bytes], dimensions: int
) -> tuple[Matrix, list[dict[str, Any]]] | None:
    """The vectors (n, dimensions), as JSON would give them, and the objects around them; None where one of the values
    is not laid out as a worker does it. Raises Unreadable."""
    size = _WIDTH * dimensions
    numbers: list[bytes] = []
    documents: list[dict[str, Any]] = []
    for id, value in zip(ids, values, strict=True):
        head = b'{"id":%b,"vector":' % orjson.dumps(id)
        start, stop = len(head), len(head) + size
        rest = value[stop + 1 :]
        if not value.startswith(head + b"[") or value[stop : stop + 1] != b"]" or _MARK_TEXT in rest:
            return None
        document = read_json(head + _MARK_TEXT + rest, MAX_DEPTH + 1)
        if not isinstance(document, dict) or document["vector"] != _MARK:
            return None
        numbers.append(b"," + value[start + 1 : stop])
        documents.append(document)
    vectors = np.empty((len(numbers), dimensions), np.float32)
    for first in range(0, len(numbers), _GROUP):
        group = slice(first, first + _GROUP)
        if not _read_numbers(b"".join(numbers[group]), vectors[group]):
            return None
    return vectors, documents


def _read_numbers(text: bytes, vectors: Matrix) -> bool:
    """False where one of the numbers is written in another way."""
    characters = np.frombuffer(text, np.uint8).reshape(-1, _WIDTH)
    signs, digits = characters[:, 1], characters[:, 4:]
    negative = signs == _MINUS
    usual = (
        (characters[:, 0] == _COMMA).all()
        and (negative | (signs == _BLANK)).all()
        and (characters[:, 2] == _ZERO).all()
        and (characters[:, 3] == _POINT).all()
        and (digits - _ZERO <= 9).all()  # what is less than "0" becomes more than 9
    )
    if usual:
        # Whole numbers, which float64 adds and multiplies exactly, and one division: the float64 next to the decimal
        # number, which is also what JSON gives.
        whole = characters.astype(np.float64) @ _WEIGHTS - _ZERO * _WEIGHTS.sum()
        vectors[:] = (whole / np.where(negative, -_SCALE, _SCALE)).reshape(vectors.shape)
    return bool(usual)
