"""The client's records as ours."""

from __future__ import annotations

from typing import Any

from streamer.core.events import Record, TopicPartition


def record_of(record: Any) -> Record:
    """Header values may be null on the wire; nothing downstream tells null from empty."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Record(
        TopicPartition(record.topic, record.partition),
        record.offset,
        record.key,
        record.value,
        record.timestamp,
        headers,
    )
