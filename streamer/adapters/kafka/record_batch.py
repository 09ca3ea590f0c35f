"""Record batches (format 2) of many messages at once: a header at a time for all of them, and each byte copied once.

The client's builder takes a record at a time, encodes each of its headers, and computes the checksum without the
processor's own instruction for it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeAlias

import google_crc32c
from aiokafka import codec

from streamer.core.events import HeaderColumn, Headers, Message, MessageColumns, Piece

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

Column: TypeAlias = Sequence[Piece]


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


_VARINTS: Final = [varint(number) for number in range(4096)]  # nearly all there are, in a third of the time
_AFTER_ATTRIBUTES: Final = [b"\0" + number for number in _VARINTS]


@dataclass(frozen=True, slots=True)
class Records:
    """Messages, encoded but for where in a batch they are: `columns` hold what each consists of, one piece behind the
    other, and `sizes` how long these are together."""

    columns: Sequence[Column]
    sizes: Sequence[int]
    timestamps: Sequence[int | None]

    @classmethod
    def of(cls, messages: Sequence[Message] | MessageColumns) -> Records:
        if isinstance(messages, MessageColumns):
            before = [_lengths(messages.keys), messages.keys, _varints(messages.value_bytes)]
            headers = _headers(messages.headers, len(messages))
            sizes = _sums([*_sizes([*before, headers]), messages.value_bytes])
            return cls([*before, *messages.values, headers], sizes, messages.timestamps)
        keys, values = [message.key for message in messages], [message.value for message in messages]
        named = _header_columns([message.headers for message in messages])
        headers = (
            [_encoded(message.headers) for message in messages] if named is None else _headers(named, len(messages))
        )
        columns = [*_nullable(keys), *_nullable(values), headers]
        return cls(columns, _sums(_sizes(columns)), [message.timestamp for message in messages])

    def chosen(self, positions: Sequence[int]) -> Records:
        """Those at these positions, in that order."""
        if len(positions) == 1:  # of which an itemgetter makes no tuple
            (position,) = positions
            columns = [[column[position]] for column in self.columns]
            return Records(columns, [self.sizes[position]], [self.timestamps[position]])
        pick = itemgetter(*positions)
        return Records([pick(column) for column in self.columns], pick(self.sizes), pick(self.timestamps))

    def runs(self, max_bytes: int) -> Iterator[tuple[int, int]]:
        """Where batches of at most so many bytes begin and end; a message that is larger has one to itself."""
        start, upto = 0, BATCH_BYTES
        for place, size in enumerate(self.sizes):
            upto += size + _RECORD_BYTES
            if upto > max_bytes and place > start:
                yield start, place
                start, upto = place, BATCH_BYTES + size + _RECORD_BYTES
        yield start, len(self.sizes)

    def batch(self, start: int, end: int, compression: str, *, is_transactional: bool) -> RecordBatchBuilder:
        """Those from `start` on up to `end` as a batch for `AIOKafkaProducer.send_batch`."""
        now = int(time.time() * 1000)
        timestamps = [now if timestamp is None else timestamp for timestamp in self.timestamps[start:end]]
        first, count = timestamps[0], len(timestamps)
        times, places = _after_attributes([timestamp - first for timestamp in timestamps]), _varints(range(count))
        measured = zip(times, places, self.sizes[start:end], strict=True)
        sizes = [len(since) + len(place) + size for since, place, size in measured]
        lengths = _varints(sizes)
        columns = [lengths, times, places, *(column[start:end] for column in self.columns)]
        chunks = chain.from_iterable(zip(*columns, strict=True))
        size = sum(map(len, lengths)) + sum(sizes)
        return RecordBatchBuilder(list(chunks), size, timestamps, compression, is_transactional)


def _sizes(columns: Iterable[Sequence[bytes]]) -> list[Iterable[int]]:
    return [map(len, column) for column in columns]


def _sums(columns: Iterable[Iterable[int]]) -> list[int]:
    return [*map(sum, zip(*columns, strict=True))]


def _lengths(column: Sequence[bytes]) -> list[bytes]:
    return _varints([*map(len, column)])


def _varints(numbers: Sequence[int]) -> list[bytes]:
    """Of numbers that are not negative."""
    if max(numbers) < len(_VARINTS):
        return [_VARINTS[number] for number in numbers]  # nearly always
    return [*map(varint, numbers)]


def _after_attributes(numbers: Sequence[int]) -> list[bytes]:
    """The same behind a record's attributes, of which there are none."""
    if min(numbers) >= 0 and max(numbers) < len(_AFTER_ATTRIBUTES):
        return [_AFTER_ATTRIBUTES[number] for number in numbers]
    return [b"\0" + varint(number) for number in numbers]


def _nullable(column: Sequence[bytes | None]) -> list[Sequence[bytes]]:
    return [
        [_NOTHING if each is None else varint(len(each)) for each in column],
        [b"" if each is None else each for each in column],
    ]


def _header_columns(headers: Sequence[Headers]) -> list[HeaderColumn] | None:
    """None where not all have headers of the same names."""
    if len(set(map(len, headers))) > 1:
        return None
    columns: list[HeaderColumn] = []
    for column in zip(*headers, strict=True):
        names, values = zip(*column, strict=True)
        if names.count(names[0]) < len(headers):
            return None
        columns.append((names[0], values[0] if values.count(values[0]) == len(headers) else values))
    return columns


def _headers(headers: Sequence[HeaderColumn], count: int) -> list[bytes]:
    """Those of each message: names are encoded once, and so is what is the same in all of them."""
    constant = varint(len(headers))
    pieces: list[Sequence[bytes]] = []
    for name, values in headers:
        constant += _name(name)
        if isinstance(values, bytes):
            constant += varint(len(values)) + values
            continue
        sizes = [*map(len, values)]
        if sizes.count(sizes[0]) == count:
            pieces += ([constant + varint(sizes[0])] * count, values)
        else:
            pieces += ([constant] * count, _varints(sizes), values)
        constant = b""
    return [*map(b"".join, zip(*pieces, [constant] * count, strict=True))]


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
        self, chunks: Sequence[Piece], size: int, timestamps: Sequence[int], compression: str, is_transactional: bool
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
