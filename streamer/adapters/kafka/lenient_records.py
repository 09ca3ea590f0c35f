"""Records that the client cannot read, and with them nothing behind them: header names that are not UTF-8, batches that
decompress to more than the memory of the machine or are packed in a way that the client does not know, and batches of
the format v2 beside those of an older one.

Importing this module has aiokafka 0.14 read batches through `LenientRecords`, which changes nothing but this: a record
that would raise UnicodeDecodeError is handed over, its name with surrogates for the bytes that are no UTF-8; one record
without content, at the last offset, stands in for a batch that cannot be unpacked; and all formats are read.
`record_of` makes records of them that say so. Damaged batches are still refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any

import google_crc32c
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from streamer.adapters.kafka.decompression import GZIP, LARGEST_BATCH, LZ4, SNAPPY, ZSTD, exceeds

STANDS_IN = "\udc00"
"""Name of a header, which no producer can write, of a record that stands in for others; its value says why."""

_LENGTH_OFFSET = 8
_LOG_OVERHEAD = 12  # offset and length of a batch
_MAGIC_OFFSET = 16
# Of a batch in the format v2: attributes, last timestamp, number of records; then these.
_HEADER = struct.Struct(">21xh12xq14xi")
# Before that a batch was one message in the format v0 or v1, its value the packed messages: attributes; timestamp.
_MESSAGE = (struct.Struct(">17xb"), struct.Struct(">17xbq"))
_CHECKSUM = struct.Struct(">17xI")  # in the format v2, of all that follows it
_CHECKED_FROM = 21
_CODEC_MASK = 7
_KNOWN = ((GZIP, SNAPPY), (GZIP, SNAPPY, LZ4), (GZIP, SNAPPY, LZ4, ZSTD))  # by format; LZ4 in v0 is another one


class Reread(_DefaultRecordPy):  # type: ignore[misc]  # the client is not typed
    """A record that the client could not read. Only of these a header's name may have surrogates."""

    __slots__ = ()


class LenientRecords:
    """Stands in for aiokafka's MemoryRecords."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._strict = MemoryRecords(data)
        self._start = 0
        self._is_old = False
        self._is_old = self._next_is_old()

    def size_in_bytes(self) -> int:
        return len(self._data)

    def has_next(self) -> bool:
        return bool(self._strict.has_next())

    def next_batch(self) -> _Batch | None:
        if self._is_old != (is_old := self._next_is_old()):
            # The client takes all batches of a fetch for what the first one is. After an upgrade of the brokers they
            # are of both kinds.
            self._strict, self._is_old = MemoryRecords(self._data[self._start :]), is_old
        batch = self._strict.next_batch()
        if batch is None:
            return None
        start = self._start
        length = int.from_bytes(self._data[start + _LENGTH_OFFSET : start + _LOG_OVERHEAD], "big", signed=True)
        self._start = start + _LOG_OVERHEAD + length
        return _Batch(batch, memoryview(self._data)[start : self._start])

    def _next_is_old(self) -> bool:
        """Whether the next batch is in a format before v2. A part of a batch, at the end, is like the one before."""
        place = self._start + _MAGIC_OFFSET
        return self._data[place] < 2 if place < len(self._data) else self._is_old


class _Batch:
    """A batch of the client's, read a second time where it fails for the name of a header."""

    def __init__(self, strict: Any, data: memoryview) -> None:
        self._strict = strict
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strict, name)

    def validate_crc(self) -> bool:
        """By the processor's own instruction: an eighth of the time, which is a tenth of what a record costs."""
        if self._data[_MAGIC_OFFSET] < 2:
            return bool(self._strict.validate_crc())
        (checksum,) = _CHECKSUM.unpack_from(self._data)
        return bool(google_crc32c.value(bytes(self._data[_CHECKED_FROM:])) == checksum)

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
        except AssertionError as exc:  # which is how the client refuses a batch that was compressed twice
            last = self._strict.next_offset - 1
            yield _instead(last, -1, f"the rest of a batch up to offset {last} is not read: {exc}")


def _stand_in(data: memoryview, strict: Any) -> Any | None:
    """The record to hand over instead of a batch that cannot be unpacked; None for any other."""
    magic, last = data[_MAGIC_OFFSET], strict.next_offset - 1
    try:
        layout = _HEADER if magic >= 2 else _MESSAGE[magic]
        attributes, *rest = layout.unpack_from(data)
        codec = attributes & _CODEC_MASK
        if not codec:
            return None
        packed = data[_HEADER.size :] if magic >= 2 else _value(data, layout.size)
    except struct.error:
        return None  # cut short: the client says so
    timestamp = rest[0] if rest else -1
    if magic >= 2:
        what = f"a batch of {rest[1]} records, offsets {strict.base_offset} to {last},"
    else:
        what = f"a batch in the format v{magic}, up to offset {last},"
    if codec not in _KNOWN[min(magic, 2)]:
        why = f"is compressed in a way that is not known (codec {codec})"
    elif exceeds(codec, packed, LARGEST_BATCH):
        why = f"decompresses to more than {LARGEST_BATCH} bytes"
    else:
        return None
    return _instead(last, timestamp, f"{what} {why}: none of them is read")


def _instead(offset: int, timestamp: int, reason: str) -> Any:
    return Reread(offset, timestamp, 0, None, None, [(STANDS_IN, reason.encode())])


def _value(data: memoryview, position: int) -> memoryview:
    """Of a message in an old format whose key begins here. Raises struct.error."""
    for _ in ("key", "value"):
        (size,) = struct.unpack_from(">i", data, position)
        start = position + 4
        position = start + max(0, size)
    return data[start:position]


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
        yield Reread(batch.base_offset + offset, moment, batch.timestamp_type, key, value, headers)


def _bytes(buffer: bytearray, position: int) -> tuple[bytes | None, int]:
    length, position = decode_varint(buffer, position)
    if length < 0:
        return None, position
    return bytes(buffer[position : position + length]), position + length


fetcher.MemoryRecords = LenientRecords
