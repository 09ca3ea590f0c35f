"""The client's records as ours.

Importing this module has consumers whose `key_deserializer` is `AS_OURS` hand over our records instead of the client's
(aiokafka 0.14): making both took a tenth of what an event costs a worker. Other consumers do as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import structlog
from aiokafka import conn
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords

from streamer.adapters.kafka.lenient_records import STANDS_IN, Reread  # has the client hand over what it cannot read
from streamer.core.events import Record, TopicPartition

log = structlog.get_logger(__name__)


def AS_OURS(key: bytes) -> bytes:  # noqa: N802  # a mark, which is compared and never called
    """The mark of a consumer that hands over our records."""
    return key


def records_in(polled: Mapping[Any, Iterable[Record]]) -> list[Record]:
    """What `getmany` of such a consumer returns, each partition's in offset order."""
    return list(chain.from_iterable(polled.values()))


def record_of(tp: TopicPartition, record: Any) -> Record:
    """Header values may be null on the wire; nothing downstream tells null from empty. Records in the oldest format
    (v0) have no timestamp, which is Kafka's -1.

    A header whose name is not UTF-8 is left out, and `unreadable` says so; or it says what the record stands in for.
    """
    timestamp, headers = record.timestamp, record.headers
    if timestamp is None:
        timestamp = -1
    if type(record) is Reread:
        return _with_mended_headers(tp, record, timestamp)
    for _, value in headers:  # as a loop, which takes a third of the time of a generator
        if value is None:
            return _with_mended_headers(tp, record, timestamp)
    return Record(tp, record.offset, record.key, record.value, timestamp, tuple(headers))


def _with_mended_headers(tp: TopicPartition, record: Any, timestamp: int) -> Record:
    headers = tuple([(name, value or b"") for name, value in record.headers])
    unreadable = None
    if not all(_is_utf8(name) for name, _ in headers):
        bad = next(name for name, _ in headers if not _is_utf8(name))
        if bad == STANDS_IN:
            unreadable = dict(headers)[bad].decode()
        else:
            unreadable = f"the name of a header is not UTF-8: {bad.encode('utf-8', 'surrogateescape')[:100]!r}"
        headers = tuple(header for header in headers if _is_utf8(header[0]))
        log.warning("record stepped over", partition=str(tp), offset=record.offset, reason=unreadable)
    return Record(tp, record.offset, record.key, record.value, timestamp, headers, unreadable)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _PartitionRecords(PartitionRecords):  # type: ignore[misc]  # the client is not typed
    """What a fetch brought of one partition."""

    def __init__(self, tp: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(tp, *arguments, **named)
        if self._key_deserializer is AS_OURS:
            self._tp = TopicPartition(*tp)
            self._consumer_record = record_of  # in place of a method: there is one call for each record

    def __iter__(self) -> Iterator[Any]:
        return self._records_iterator or iter(())  # without a call for each


fetcher.PartitionRecords = _PartitionRecords
# The client stops reading a connection at two of its 64 KiB and begins again, thirty times for what one fetch brings.
# It collects all of that before it looks at it, whatever the limit.
conn.READER_LIMIT = 1 << 22
