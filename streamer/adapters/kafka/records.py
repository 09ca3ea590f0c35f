"""The client's records as ours."""

from __future__ import annotations

from typing import Any

import structlog

from streamer.adapters.kafka.lenient_records import STANDS_IN  # which has the client hand over what it could not read
from streamer.core.events import Record, TopicPartition

log = structlog.get_logger(__name__)


def record_of(record: Any) -> Record:
    """Header values may be null on the wire; nothing downstream tells null from empty.

    A header whose name is not UTF-8 is left out, and `unreadable` says so; or it says what the record stands in for.
    """
    headers = tuple((name, value or b"") for name, value in record.headers)
    unreadable = None
    if not all(name.isascii() or _is_utf8(name) for name, _ in headers):
        bad = next(name for name, _ in headers if not _is_utf8(name))
        if bad == STANDS_IN:
            unreadable = dict(headers)[bad].decode()
        else:
            unreadable = f"the name of a header is not UTF-8: {bad.encode('utf-8', 'surrogateescape')[:100]!r}"
        headers = tuple(header for header in headers if _is_utf8(header[0]))
        where = f"{record.topic}/{record.partition}"
        log.warning("record stepped over", partition=where, offset=record.offset, reason=unreadable)
    return Record(
        TopicPartition(record.topic, record.partition),
        record.offset,
        record.key,
        record.value,
        record.timestamp,
        headers,
        unreadable,
    )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
