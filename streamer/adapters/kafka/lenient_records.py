"""Records that the client cannot read, and with them nothing behind them: header names that are not UTF-8, and batches
that decompress to more than the memory of the machine.

Importing this module has aiokafka 0.14 read batches through `LenientRecords`, which changes nothing but this: a record
that would raise UnicodeDecodeError is handed over, its name with surrogates for the bytes that are no UTF-8; and one
record without content, at the last offset, stands in for a batch that is too large. `record_of` makes records of them
that say so. Damaged batches are still refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from streamer.adapters.kafka.decompression import LARGEST_BATCH, exceeds

STANDS_IN = "\udc00"
"""Name of a header, which no producer can write, of a record that stands in for others; its value says why."""

_LENGTH_OFFSET = 8
_LOG_OVERHEAD = 12  # offset and length of a batch
# Of a batch in the format v2: magic, attributes, last timestamp, number of records; then these.
_HEADER = struct.Struct(">16xb4xh12xq14xi")
_CODEC_MASK = 7


class LenientRecords:
    """Stands in for aiokafka's MemoryRecords."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._strict = MemoryRecords(data)
        self._start = 0

    def size_in_bytes(self) -> int:
        return int(self._strict.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._strict.has_next())

    def next_batch(self) -> _Batch | None:
        batch = self._strict.next_batch()
        if batch is None:
            return None
        start = self._start
        length = int.from_bytes(self._data[start + _LENGTH_OFFSET : start + _LOG_OVERHEAD], "big", signed=True)
        self._start = start + _LOG_OVERHEAD + length
        return _Batch(batch, memoryview(self._data)[start : self._start])


class _Batch:
    """A batch of the client's, read a second time where it fails for the name of a header."""

    def __init__(self, strict: Any, data: memoryview) -> None:
        self._strict = strict
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strict, name)

    def __next__(self) -> Any:
        """The client takes the one record of a control batch like this, which has no headers."""
        return next(self._strict)

    def __iter__(self) -> Iterator[Any]:
        if (instead := _stand_in(self._data, self._strict)) is not None:
            yield instead
            return
        handed_over = 0
        try:
            for record in self._strict:
                yield record
                handed_over += 1
        except UnicodeDecodeError:
            yield from islice(_read(self._data), handed_over, None)


def _stand_in(data: memoryview, strict: Any) -> Any | None:
    """The record to hand over instead of a batch that is too large; None for any other."""
    if len(data) < _HEADER.size:
        return None
    magic, attributes, timestamp, count = _HEADER.unpack_from(data)
    codec = attributes & _CODEC_MASK
    if magic < 2 or not codec or not exceeds(codec, data[_HEADER.size :], LARGEST_BATCH):
        return None
    last = strict.next_offset - 1
    reason = (
        f"a batch of {count} records, offsets {strict.base_offset} to {last}, decompresses to more than "
        f"{LARGEST_BATCH} bytes: none of them is read"
    )
    return _DefaultRecordPy(last, timestamp, 0, None, None, [(STANDS_IN, reason.encode())])


def _read(data: memoryview) -> Iterator[Any]:
    """The records of a batch in the format v2, from its first one on. Raises CorruptRecordException."""
    batch = _DefaultRecordBatchPy(data)
    batch._maybe_uncompress()  # noqa: SLF001
    buffer, position = batch._buffer, batch._pos  # noqa: SLF001
    appended = batch.timestamp_type == batch.LOG_APPEND_TIME
    for _ in range(batch._num_records):  # noqa: SLF001
        length, position = decode_varint(buffer, position)
        end = position + length
        if length < 0 or end > len(buffer):
            raise CorruptRecordException(f"a record of {length} bytes reaches beyond its batch")
        position += 1  # attributes
        timestamp, position = decode_varint(buffer, position)
        offset, position = decode_varint(buffer, position)
        key, position = _bytes(buffer, position)
        value, position = _bytes(buffer, position)
        count, position = decode_varint(buffer, position)
        headers = []
        for _ in range(count):
            name, position = _bytes(buffer, position)
            content, position = _bytes(buffer, position)
            headers.append(((name or b"").decode("utf-8", "surrogateescape"), content))
        if position != end:
            raise CorruptRecordException("a record does not end where its length says")
        moment = batch.max_timestamp if appended else batch.first_timestamp + timestamp
        yield _DefaultRecordPy(batch.base_offset + offset, moment, batch.timestamp_type, key, value, headers)


def _bytes(buffer: bytearray, position: int) -> tuple[bytes | None, int]:
    length, position = decode_varint(buffer, position)
    if length < 0:
        return None, position
    return bytes(buffer[position : position + length]), position + length


fetcher.MemoryRecords = LenientRecords
