"""What can go wrong with one answer. The vendors' fakes apply these; none of them knows a vendor."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TypeAlias

import numpy as np

from streamer.core.vectors import Vector

# One entry of an answer: the index it claims (services without indices ignore it) and its vector, None for a null.
Row: TypeAlias = tuple[int | None, Vector | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to one request. Without any field set: nothing.

    Before the answer: `delay` seconds, or `hang` (the request is read, nothing ever comes), or `reset` (the connection
    is closed). Instead of it: a refusal with `status` in the vendor's own shape (`code` selects among several of the
    same status), or `body` with `content_type` as it is. In it: `rows` rewrites the entries; `floats` ignores the wish
    for base64; `big_endian` writes base64 the wrong way round. On the wire: `seconds_per_byte`, or `cut` after so many
    bytes of the body, or `endless`: after the body these bytes again and again, in chunks, while somebody reads them.
    `headers` are added to whatever is answered.
    """

    delay: float = 0.0
    hang: bool = False
    reset: bool = False
    status: int = 200
    code: str = ""
    body: bytes | None = None
    content_type: str = "application/json"
    rows: Callable[[list[Row]], list[Row]] | None = None
    floats: bool = False
    big_endian: bool = False
    seconds_per_byte: float = 0.0
    cut: int | None = None
    endless: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


NOTHING = Fault()
HANG = Fault(hang=True)
RESET = Fault(reset=True)
DRIP = Fault(seconds_per_byte=1.0)
CUT = Fault(cut=20)
INVALID_JSON = Fault(body=b'{"object": "list", "data": [')
HTML = Fault(body=b"<html><body>Welcome to nginx</body></html>", content_type="text/html")
EMPTY_BODY = Fault(body=b"")
GZIP_GARBAGE = Fault(body=gzip.compress(b"{}")[:-6] + b"broken", headers={"content-encoding": "gzip"})
BASE64_IGNORED = Fault(floats=True)
BIG_ENDIAN = Fault(big_endian=True)


def refusal(status: int, code: str = "", **headers: str) -> Fault:
    """A refusal in the vendor's shape; header names are given with underscores."""
    return Fault(status=status, code=code, headers={name.replace("_", "-"): value for name, value in headers.items()})


def rate_limited_until(seconds: float) -> Fault:
    """429 with `retry-after` as an HTTP date on the server's clock, which is three hours off ours."""
    clock = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)
    return refusal(
        429,
        date=format_datetime(clock, usegmt=True),
        retry_after=format_datetime(clock + timedelta(seconds=seconds), usegmt=True),
    )


def shuffled(rows: list[Row]) -> list[Row]:
    """In another order, with the right indices."""
    return rows[1::2] + rows[::2]


def short(rows: list[Row]) -> list[Row]:
    return rows[:-1]


def long(rows: list[Row]) -> list[Row]:
    return [*rows, (len(rows), rows[0][1])]


def none_at_all(rows: list[Row]) -> list[Row]:
    return []


def duplicate_index(rows: list[Row]) -> list[Row]:
    return [(0, vector) if i == len(rows) - 1 else (i, vector) for i, vector in rows]


def one_without_index(rows: list[Row]) -> list[Row]:
    return [(None if i == 0 else i, vector) for i, vector in rows]


def without_indices(rows: list[Row]) -> list[Row]:
    return [(None, vector) for _, vector in rows]


def nan_in_first(rows: list[Row]) -> list[Row]:
    return _first(rows, lambda vector: np.concatenate([[np.float32(np.nan)], vector[1:]]))


def zero_first(rows: list[Row]) -> list[Row]:
    return _first(rows, np.zeros_like)


def null_first(rows: list[Row]) -> list[Row]:
    return _first(rows, lambda vector: None)


def first_row_too_wide(rows: list[Row]) -> list[Row]:
    return _first(rows, lambda vector: np.concatenate([vector, vector]))


def every_row_too_wide(rows: list[Row]) -> list[Row]:
    return [(i, None if vector is None else np.concatenate([vector, vector])) for i, vector in rows]


def _first(rows: list[Row], change: Callable[[Vector], Vector | None]) -> list[Row]:
    (index, vector), *others = rows
    assert vector is not None
    return [(index, change(vector)), *others]
