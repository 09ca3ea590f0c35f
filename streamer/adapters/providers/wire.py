"""Texts as they go onto the wire, rows of vectors as they come off it.

Everything here raises ValueError for an answer that cannot be used, and makes NaN of a row that cannot; nothing here
judges the values in a row. Vectors are asked for in base64 (little-endian float32) where a vendor offers it: the answer
is a quarter of the size and is copied into the matrix instead of being read digit by digit. Numbers from servers that
ignore the wish are understood.
"""

from __future__ import annotations

import binascii
import json
from collections import Counter
from math import isfinite
from typing import Any

import numpy as np
import orjson

from streamer.core.vectors import Matrix, Vector
from streamer.errors import ConfigurationError


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        # Python servers write NaN as a bare word. That row is bad, the others are not: read it the lenient, slow way.
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise ValueError(f"not JSON, or nested too deeply ({len(body)} bytes)") from None
    if not isinstance(document, dict):
        raise ValueError(f"a JSON {type(document).__name__} instead of an object")
    return document


class Unordered(ValueError):
    """Nobody can tell which text each embedding belongs to. Asking again does not help."""


def rows_in_order(data: object, count: int) -> list[object]:
    """The `embedding` of each of `count` items, put where its `index` says; by position if no item has an index.

    Servers write the index in many ways: they leave out a 0, write "1" or 1.0, or begin with 1. Those are read as they
    are meant. An item that is missing among others with an index, or is no object, is a null row. With fewer or more
    items and no index, the rows come back as they are. Raises Unordered when the indices do not tell the order.
    """
    if not isinstance(data, list):
        raise ValueError("no list of embeddings")
    rows = [item.get("embedding") if isinstance(item, dict) else item for item in data]
    indices = [_index(item.get("index")) if isinstance(item, dict) else None for item in data]
    known = [index for index in indices if index is not None]
    if not known or count == 1 or len(data) > count or (len(data) < count and None in indices):
        return rows
    places = _places(indices, known, count)
    if places is None:
        repeated = f"index {known[0]} for each of" if len(set(known)) == 1 < len(known) else "odd indices for"
        raise Unordered(
            f"{repeated} {len(data)} embeddings: {count} texts need 0 to {count - 1}, each once; one text a request "
            "needs no index: set provider.max_items = 1"
        )
    ordered: list[object] = [None] * count
    for place, row in zip(places, rows, strict=True):
        ordered[place] = row
    return ordered


def matrix_of(rows: object, count: int, dimensions: int) -> Matrix:
    """The rows, each a base64 string or a list of numbers, as float32 (rows, width); `count` are due.

    A row that is null, empty, no vector at all, or of another width than the others becomes NaN, so that the one text
    is found to be bad and not the whole answer. The width is `dimensions` if any row has it, else that of most rows.
    Raises ValueError when no row of several is a vector: that is the server's fault and not the texts'.
    """
    if not isinstance(rows, list):
        raise ValueError("no list of embeddings")
    if not rows and count == 1:
        rows = [None]
    decoded: list[Vector | None] = []
    why = ""
    for row in rows:
        try:
            decoded.append(_floats(row))
        except ValueError as exc:
            decoded.append(None)
            why = why or str(exc)
    widths = Counter(len(row) for row in decoded if row is not None)
    if not widths and len(rows) > 1:
        raise ValueError(f"none of {len(rows)} embeddings is a vector: {why}")
    width = dimensions if dimensions in widths or not widths else max(widths, key=lambda w: (widths[w], w))
    matrix = np.full((len(rows), width), np.nan, dtype=np.float32)
    for i, vector in enumerate(decoded):
        if vector is not None and len(vector) == width:
            matrix[i] = vector
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


def _index(value: object) -> int | None:
    """-1 for an index that is there and is no whole number."""
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        return -1
    return int(number) if number >= 0 and number.is_integer() else -1


def _places(indices: list[int | None], known: list[int], count: int) -> list[int] | None:
    """Where each item belongs, None when that cannot be told."""
    if min(known) < 0 or len(set(known)) < len(known):
        return None
    first = 1 if min(known) == 1 and max(known) == len(known) == count else 0
    if max(known) - first >= count:
        return None
    if None not in indices:
        return [index - first for index in known]
    # Items without an index: the only one left goes to the only place left; several must all stand where they belong.
    if len(known) == count - 1:
        (left,) = set(range(count)).difference(known)
        return [left if index is None else index for index in indices]
    return list(range(count)) if all(index in (None, i) for i, index in enumerate(indices)) else None


def _floats(row: object) -> Vector:
    """A row as float32, at least one number. Raises ValueError, saying what it is instead."""
    if isinstance(row, str):
        raw = binascii.a2b_base64(row, strict_mode=True)
        if not raw or len(raw) % 4:
            raise ValueError(f"a base64 embedding of {len(raw)} bytes, which is no whole number of floats")
        return np.frombuffer(raw, dtype="<f4")
    if not isinstance(row, list):
        raise ValueError("null" if row is None else f"an embedding that is a {type(row).__name__}")
    if len(row) == 1 and isinstance(row[0], list):
        row = row[0]  # the vectors of one sequence
    if not row:
        raise ValueError("an empty embedding")
    if not all(number is None or isinstance(number, int | float) for number in row):
        raise ValueError("an embedding holds something that is no number")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinity, which is judged later
        try:
            return np.array(row, dtype=np.float32)
        except OverflowError:  # a whole number beyond float64
            raise ValueError("an embedding holds a number that no float can hold") from None
