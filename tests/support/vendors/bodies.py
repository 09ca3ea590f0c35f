"""Parts of answers that several services write alike."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import orjson

from streamer.core.vectors import Vector
from tests.support.vendors.misbehaviour import Fault, Row


def dumps(answer: Any) -> bytes:
    """JSON of an answer that holds numpy rows. Where one holds NaN, it is the bare word that Python servers write."""
    try:
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:
        return json.dumps(answer, default=lambda row: row.tolist()).encode()


def number_list(vector: Vector | None) -> Any:
    """A row that `dumps` writes as a list of numbers."""
    if vector is None:
        return None
    # orjson would write null for NaN. An array of objects it refuses, which sends the answer the other way.
    return np.ascontiguousarray(vector) if np.isfinite(vector).all() else np.asarray(vector, dtype=object)


def base64_floats(vector: Vector | None, fault: Fault) -> str | None:
    """A row as base64 of little-endian float32, or of the other order where the fault says so."""
    if vector is None:
        return None
    return base64.b64encode(vector.astype(">f4" if fault.big_endian else "<f4").tobytes()).decode()


def entry(row: Row, as_base64: bool, fault: Fault) -> dict[str, Any]:
    """One item of `data`, as OpenAI and Voyage write it."""
    index, vector = row
    item: dict[str, Any] = {
        "object": "embedding",
        "embedding": base64_floats(vector, fault) if as_base64 and not fault.floats else number_list(vector),
    }
    if index is not None:
        item["index"] = index
    return item
