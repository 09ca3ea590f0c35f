"""Texts as they go onto the wire, rows of vectors as they come off it.

Everything here raises ValueError for an answer that cannot be used; nothing here judges the values in a row. Vectors
are asked for in base64 (little-endian float32) where a vendor offers it: the answer is a quarter of the size and is
copied into the matrix instead of being read digit by digit. Numbers from servers that ignore the wish are understood.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import orjson

from streamer.core.vectors import Matrix, Vector
from streamer.errors import ConfigurationError


def well_formed(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates, which UTF-8 cannot carry, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        # Python servers write NaN as a bare word. That row is bad, the others are not: read it the lenient, slow way.
        try:
            document = json.loads(body)
        except ValueError:
            raise ValueError(f"not JSON ({len(body)} bytes)") from None
    if not isinstance(document, dict):
        raise ValueError(f"a JSON {type(document).__name__} instead of an object")
    return document


def rows_in_order(data: object, count: int) -> list[object]:
    """The `embedding` of each of `count` items, put where its `index` says; by position if no item has an index."""
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise ValueError("no list of embeddings")
    if len(data) != count:
        raise ValueError(f"{len(data)} embeddings for {count} texts")
    indices = [item.get("index") for item in data]
    if all(index is None for index in indices):
        return [item.get("embedding") for item in data]
    if sorted(index for index in indices if isinstance(index, int)) != list(range(count)):
        raise ValueError(f"the indices of {count} embeddings are not 0 to {count - 1}, each once")
    rows: list[object] = [None] * count
    for item in data:
        rows[item["index"]] = item.get("embedding")
    return rows


def matrix_of(rows: object, count: int, dimensions: int) -> Matrix:
    """`count` rows, each a base64 string or a list of numbers, as float32 (count, width).

    The width is what the server sent; `dimensions` stands in only if no row says. A null row or number becomes NaN,
    so that the one text is found to be bad and not the whole answer.
    """
    if not isinstance(rows, list):
        raise ValueError("no list of embeddings")
    if len(rows) != count:
        raise ValueError(f"{len(rows)} embeddings for {count} texts")
    decoded = [_floats(row) for row in rows]
    widths = {len(row) for row in decoded if row is not None}
    if len(widths) > 1:
        raise ValueError(f"embeddings of {' and '.join(map(str, sorted(widths)))} dimensions in one answer")
    matrix = np.full((count, widths.pop() if widths else dimensions), np.nan, dtype=np.float32)
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinity, which is judged later
            for i, row in enumerate(decoded):
                if row is not None:
                    matrix[i] = row
    except TypeError:
        raise ValueError("an embedding holds something that is no number") from None
    return matrix


def check_dimensions(wanted: int, found: int, model: str, *, may_cut: bool) -> None:
    """ConfigurationError unless a model in this process, whose vectors have `found` dimensions, gives `wanted`."""
    if wanted != found and not (may_cut and wanted < found):
        remedy = "" if may_cut else "; if it is trained to be cut, set provider.matryoshka, else provider.reduction"
        raise ConfigurationError(f"provider.dimensions is {wanted}, but {model} gives {found}{remedy}")


def count_at(answer: object, *path: str) -> int | None:
    """The whole number under these keys, one inside the other; None where the server does not say."""
    for name in path:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return int(answer) if isinstance(answer, int | float) and isfinite(answer) else None


def _floats(row: object) -> Sequence[float] | Vector | None:
    if row is None:
        return None
    if isinstance(row, str):
        raw = binascii.a2b_base64(row, strict_mode=True)
        if len(raw) % 4:
            raise ValueError(f"a base64 embedding of {len(raw)} bytes, which is no whole number of floats")
        return np.frombuffer(raw, dtype="<f4")
    if isinstance(row, list):
        return row
    raise ValueError(f"an embedding that is a {type(row).__name__}")
