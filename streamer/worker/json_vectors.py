"""Unit vectors as JSON arrays, those of a batch all at once, each number with eight decimals.

To find the shortest text that gives each float32 back took a fifth of what an event in JSON costs a worker, and that
text is as long. Here a number is three words of four characters, two of which are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.core.vectors import Matrix, Vector

JsonText: TypeAlias = bytes | memoryview

DECIMALS: Final = 8  # a number is off by half of the last one at the most

_SCALE: Final = 10.0**DECIMALS
_BASE: Final = np.uint32(10_000)
_GROUP: Final = 64  # vectors in arrays at once: they stay in a processor's cache


def _words(*texts: str) -> NDArray[np.uint32]:
    return np.frombuffer("".join(texts).encode("ascii"), np.uint32)


_DIGITS: Final = _words(*[f"{number:04}" for number in range(int(_BASE))])
_POSITIVE: Final = _words(", 0.")[0]
_MINUS: Final = _words(f"\0{chr(ord('-') - ord(' '))}\0\0")[0]  # on top of the blank
_SIGN_BIT: Final = np.uint32(31)


def json_vectors(vectors: Sequence[Vector]) -> list[JsonText]:
    """The text of each float32 vector of one length; the same whichever vectors are beside it.

    A vector with a number that is not between -1 and 1 is written as orjson does it: float32 in full, null for NaN.
    """
    if not vectors or not vectors[0].size:
        return [b"[]"] * len(vectors)
    matrix = np.array(vectors, np.float32)
    count, dimensions = matrix.shape
    words = np.empty((count, 3 * dimensions + 1), np.uint32)
    is_small = np.empty(count, np.bool_)
    for start in range(0, count, _GROUP):
        group = slice(start, start + _GROUP)
        is_small[group] = _write(matrix[group], words[group])
    characters = words.view(np.uint8)
    end = 12 * dimensions
    characters[:, 0], characters[:, end] = ord("["), ord("]")
    raw, width = characters.reshape(-1).data, characters.shape[1]
    texts: list[JsonText] = [raw[start : start + end + 1] for start in range(0, width * count, width)]
    for place in np.flatnonzero(~is_small).tolist():
        texts[place] = orjson.dumps(matrix[place], option=orjson.OPT_SERIALIZE_NUMPY)
    return texts


def _write(matrix: Matrix, words: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """All but the brackets. Which rows hold only numbers that can be written like this."""
    signs = matrix.view(np.uint32) >> _SIGN_BIT
    signs *= _MINUS
    signs += _POSITIVE
    magnitudes = np.abs(matrix)
    is_small: NDArray[np.bool_] = magnitudes.max(axis=1) < 1
    scaled = magnitudes.astype(np.float64)
    with np.errstate(all="ignore"):  # NaN and what is too large are left to the caller
        scaled *= _SCALE  # not rounded: 24 bits times 19, and a power of two
        # By way of signed numbers, for which processors have an instruction.
        lower = np.rint(scaled, out=scaled).astype(np.int32).view(np.uint32)
    upper = lower // _BASE
    lower -= upper * _BASE
    words[:, 0:-1:3] = signs
    words[:, 1::3] = _DIGITS.take(upper, mode="clip")
    words[:, 2::3] = _DIGITS.take(lower, mode="clip")
    return is_small
