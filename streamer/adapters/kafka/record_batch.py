"""Record batches (format 2) of many messages at once: a header at a time for all of them, and each byte copied once.

The client's builder takes a record at a time, encodes each of its headers, and computes the checksum without the
processor's own instruction for it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import google_crc32c
from aiokafka import codec

from streamer.core.events import Headers, Message

_CODECS: Final[dict[str, tuple[int, Callable[[bytes], bytes] | None]]] = {
    "none": (0, None),
    "gzip": (1, codec.gzip_encode),
    "snappy": (2, codec.snappy_encode),
    "lz4": (3, codec.lz4_encode),
    "zstd": (4, codec.zstd_encode),
}
_TRANSACTIONAL: Final = 0x10
_VERSION: Final = 2
# Base offset, length of what follows, epoch of the leader, version, checksum of what follows.
_PREAMBLE: Final = struct.Struct(">qiibI")
# Attributes, last offset, first and last timestamp, producer's id and epoch, first sequence number, count.
_HEADER: Final = struct.Struct(">hiqqqhii")
_LENGTH_FROM: Final = 12
BATCH_BYTES: Final = _PREAMBLE.size + _HEADER.size
_RECORD_BYTES: Final = 16  # of a record's length, attributes, time and offset, at the most in a batch of megabytes
_NOTHING: Final = b"\x01"  # the length -1

Column = Sequence[bytes]


@lru_cache(16_384)
def varint(number: int) -> bytes:
    """A number of 64 bits as records have it: zigzag, seven bits a byte."""
    rest = number << 1 ^ number >> 63
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


class Records:
    """Messages to one partition, encoded but for where in a batch they are."""

    def __init__(self, messages: Sequence[Message]) -> None:
        columns = [*_keys([message.key for message in messages]), *_values([message.value for message in messages])]
        self._columns: list[Column] = columns + _headers([message.headers for message in messages])
        self._sizes = [sum(sizes) for sizes in zip(*(map(len, column) for column in self._columns), strict=True)]
        self._timestamps = [message.timestamp for message in messages]

    def runs(self, max_bytes: int) -> Iterator[tuple[int, int]]:
        """Where batches of at most so many bytes begin and end; a message that is larger has one to itself."""
        start, upto = 0, BATCH_BYTES
        for place, size in enumerate(self._sizes):
            upto += size + _RECORD_BYTES
            if upto > max_bytes and place > start:
                yield start, place
                start, upto = place, BATCH_BYTES + size + _RECORD_BYTES
        yield start, len(self._sizes)

    def batch(self, start: int, end: int, compression: str, *, is_transactional: bool) -> RecordBatchBuilder:
        """Those from `start` on up to `end` as a batch for `AIOKafkaProducer.send_batch`."""
        now = int(time.time() * 1000)
        timestamps = [now if timestamp is None else timestamp for timestamp in self._timestamps[start:end]]
        first = timestamps[0]
        beginnings = []
        for offset, (size, timestamp) in enumerate(zip(self._sizes[start:end], timestamps, strict=True)):
            since, place = varint(timestamp - first), varint(offset)
            beginnings.append(varint(1 + len(since) + len(place) + size) + b"\0" + since + place)
        columns = [beginnings, *(column[start:end] for column in self._columns)]
        size = sum(map(len, beginnings)) + sum(self._sizes[start:end])
        chunks = chain.from_iterable(zip(*columns, strict=True))
        return RecordBatchBuilder(list(chunks), size, timestamps, compression, is_transactional)


def _keys(keys: Sequence[bytes | None]) -> list[Column]:
    if None in keys:
        return [[_NOTHING if key is None else varint(len(key)) + key for key in keys]]
    return [*_measured(keys)]


def _values(values: Sequence[bytes | None]) -> list[Column]:
    if None in values:
        return [
            [_NOTHING if value is None else varint(len(value)) for value in values],
            [value or b"" for value in values],
        ]
    return [*_measured(values)]


def _measured(column: Any) -> tuple[Column, Column]:
    return [varint(size) for size in map(len, column)], column


def _headers(headers: Sequence[Headers]) -> list[Column]:
    """Where all messages have headers of the same names, which is nearly always, each name is encoded once."""
    count = len(headers)
    columns: list[Column] = []
    if len(set(map(len, headers))) > 1:
        return [[_encoded(own) for own in headers]]
    constant = varint(len(headers[0]))
    for column in zip(*headers, strict=True):
        name, value = column[0]
        if column.count(column[0]) == count:
            constant += _name(name) + varint(len(value)) + value
            continue
        names, values = zip(*column, strict=True)
        if names.count(name) < count:
            return [[_encoded(own) for own in headers]]
        constant += _name(name)
        columns += ([constant + varint(size) for size in map(len, values)], values)
        constant = b""
    return [*columns, [constant] * count] if constant else columns


def _encoded(headers: Headers) -> bytes:
    return varint(len(headers)) + b"".join(
        [part for name, value in headers for part in (_name(name), varint(len(value)), value)]
    )


@lru_cache(1024)
def _name(name: str) -> bytes:
    encoded = name.encode()
    return varint(len(encoded)) + encoded


class RecordBatchBuilder:
    """A batch as the client's producer takes it, in place of its `BatchBuilder`; nothing can be added to it."""

    def __init__(
        self, chunks: Sequence[bytes], size: int, timestamps: Sequence[int], compression: str, is_transactional: bool
    ) -> None:
        self._chunks = chunks
        self._size = BATCH_BYTES + size
        self._timestamps = (timestamps[0], max(timestamps))
        self._count = len(timestamps)
        self._codec = _CODECS[compression]
        self._is_transactional = is_transactional
        self._producer = (-1, -1, 0)
        self._made: EncodedBatch | None = None

    def append(self, **_message: Any) -> None:
        """None: it is full."""

    def close(self) -> None:
        """It is."""

    def closed(self) -> bool:
        return True

    def record_count(self) -> int:
        return self._count

    def size(self) -> int:
        """Bytes on the wire, once it has been sent; until then, without compression."""
        return self._size if self._made is None else len(self._made)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> EncodedBatch:
        if self._made is None:
            self._made = self._encoded()
            self._chunks = ()
        return self._made

    def _encoded(self) -> EncodedBatch:
        attributes, compress = self._codec
        chunks = self._chunks
        if compress is not None:
            plain = b"".join(chunks)
            compressed = compress(plain)
            is_smaller = len(compressed) < len(plain)
            chunks, attributes = ([compressed], attributes) if is_smaller else ([plain], 0)
        if self._is_transactional:
            attributes |= _TRANSACTIONAL
        header = _HEADER.pack(attributes, self._count - 1, *self._timestamps, *self._producer, self._count)
        body = b"".join([header, *chunks])
        length = _PREAMBLE.size + len(body) - _LENGTH_FROM
        return EncodedBatch(_PREAMBLE.pack(0, length, -1, _VERSION, google_crc32c.value(body)), body)


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """The bytes of a batch, in two pieces that are never joined: `produce_requests` writes them one after the other."""

    preamble: bytes
    body: bytes

    def __len__(self) -> int:
        return len(self.preamble) + len(self.body)

    def __bytes__(self) -> bytes:
        return self.preamble + self.body

    def __radd__(self, before: bytes) -> bytes:
        """As the client encodes requests of versions that `produce_requests` does not know."""
        return before + bytes(self)
