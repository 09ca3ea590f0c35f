"""Batches that are kilobytes on the wire and gigabytes in memory; of this kind nobody has sent us any yet."""

from __future__ import annotations

import random
import zlib
from binascii import crc32
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import anyio
import cramjam
import pytest
from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record._crc32c import crc as crc32c
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.adapters.kafka import decompression, lenient_records
from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.decompression import GZIP, LARGEST_BATCH, LZ4, SNAPPY, ZSTD, exceeds
from streamer.adapters.kafka.lenient_records import LenientRecords
from streamer.adapters.kafka.records import record_of
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.decoding import Decoder
from streamer.core.events import DeadLetter, Origin, Record, TopicPartition
from streamer.core.vector_events import Malformed, decode_vector_event
from tests.support.brokers import NewTopicName
from tests.support.raw_headers import CODECS, builder, produce_raw

Old: TypeAlias = Literal[0, 1]

ENCODE: dict[int, Callable[[bytes], bytes]] = {
    GZIP: codec.gzip_encode,
    SNAPPY: codec.snappy_encode,
    LZ4: codec.lz4_encode,
    ZSTD: codec.zstd_encode,
}
BLOCK = 128 * 1024  # of Zstandard
noise = random.Random(1).randbytes(300_000)
bodies = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 2_000_000).map(bytes),
    st.integers(0, len(noise)).map(lambda size: noise[:size]),
    st.integers(0, 60_000).map(lambda count: b'{"text": "late"}\n' * count),
)


@pytest.mark.parametrize("kind", ENCODE)
@settings(max_examples=30, deadline=None)
@given(body=bodies, share=st.floats(0, 2))
def test_the_size_is_told_to_the_byte(kind: int, body: bytes, share: float) -> None:
    data = memoryview(ENCODE[kind](body))
    for limit in (len(body), max(0, len(body) - 1), int(share * len(body))):
        assert exceeds(kind, data, limit) == (len(body) > limit)


def test_parts_that_follow_each_other_are_counted_together() -> None:
    body = bytes(200_000)
    skipped = b"\x5a\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"skipped"
    for kind, data in (
        (GZIP, codec.gzip_encode(body) * 2),
        (LZ4, codec.lz4_encode(body) * 2),
        (ZSTD, codec.zstd_encode(body) + skipped + codec.zstd_encode(body)),
        (SNAPPY, codec.snappy_encode(body, xerial_blocksize=1000)[:]),
        (SNAPPY, bytes(cramjam.snappy.compress_raw(body))),
    ):
        whole = 200_000 if kind == SNAPPY else 400_000
        assert exceeds(kind, memoryview(data), whole - 1)
        assert not exceeds(kind, memoryview(data), whole)


@given(st.sampled_from(sorted(ENCODE)), st.binary(max_size=80), st.integers(0, 400), st.integers(0, 2000))
def test_damaged_data_raise_nothing(kind: int, odd: bytes, place: int, limit: int) -> None:
    data = bytearray(ENCODE[kind](b'{"text": "late"}' * 500))
    data[place : place + len(odd)] = odd
    exceeds(kind, memoryview(bytes(data)), limit)
    exceeds(kind, memoryview(bytes(data))[:place], limit)
    exceeds(kind, memoryview(odd), limit)


def zstd_bomb(blocks: int) -> bytes:
    """Of zeros, 4 bytes for each 128 KiB, with a size of the whole in front that is a lie."""
    head = b"\x28\xb5\x2f\xfd" + b"\xa0" + (1).to_bytes(4, "little")
    block = (BLOCK << 3 | 1 << 1).to_bytes(3, "little") + b"\x00"
    last = (BLOCK << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\x00"
    return head + block * (blocks - 1) + last


def gzip_bomb(size: int) -> bytes:
    packer, piece = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 20)
    data = b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()
    return data[:-4] + (5).to_bytes(4, "little")  # the size, at the end, is a lie


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (ZSTD, zstd_bomb(8 * 1024)),  # a gigabyte
        (ZSTD, zstd_bomb(8 * 1024) + b"no frame"),
        (GZIP, gzip_bomb(LARGEST_BATCH + (4 << 20))),
        (SNAPPY, b"\xff\xff\xff\xff\x0f\x00"),  # announces four gigabytes
        (SNAPPY, b"\x82SNAPPY\x00" + bytes(8) + (6).to_bytes(4, "big") + b"\xff\xff\xff\xff\x0f\x00"),
    ],
    ids=["zstd", "zstd and more", "gzip", "snappy", "snappy in blocks"],
)
def test_a_bomb_is_known_without_its_memory(kind: int, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(decompression, "_fits")  # which takes as much as the limit
    assert len(data) < 300_000
    assert exceeds(kind, memoryview(data), LARGEST_BATCH)


def test_blocks_that_were_closed_early_are_no_bomb() -> None:
    """As of a producer that flushes after each record."""
    block = ((3 << 3) | 0 << 1).to_bytes(3, "little") + b"abc"
    plain = b"\x28\xb5\x2f\xfd\x00\x58" + block * 999 + ((3 << 3) | 1).to_bytes(3, "little") + b"abc"
    assert not exceeds(ZSTD, memoryview(plain), 3000)
    assert exceeds(ZSTD, memoryview(plain), 2999)
    frames = b"".join(codec.zstd_encode(bytes([n % 7]) * 300 + b"late" * n) for n in range(40))
    size = sum(300 + 4 * n for n in range(40))
    assert not exceeds(ZSTD, memoryview(frames), size)


def batch_of(values: list[bytes], name: str) -> bytes:
    made = builder(name)
    for n, value in enumerate(values):
        assert made.append(n, 1000 + n, b"k%d" % n, value, []) is not None
    return bytes(made.build())


@pytest.mark.parametrize("name", [name for name in CODECS if name != "none"])
def test_one_record_stands_in_for_a_batch_that_is_too_large(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lenient_records, "LARGEST_BATCH", 100_000)
    records = LenientRecords(batch_of([b"a"], name) + batch_of([bytes(60_000)] * 2, name) + batch_of([b"z"], "none"))
    found: list[Any] = []
    while records.has_next():
        batch = records.next_batch()
        assert batch is not None
        assert batch.validate_crc()
        found += list(batch)
    assert [(record.offset, record.value) for record in found] == [(0, b"a"), (1, None), (0, b"z")]
    record = record_of(TopicPartition("texts", 3), found[1])
    assert record.headers == ()
    assert str(record.unreadable).startswith("a batch of 2 records, offsets 0 to 1, decompresses to more than 100000 b")
    letter = Decoder().decode(record, Origin(record.tp, record.offset, 1))
    assert isinstance(letter, DeadLetter)
    assert (letter.kind, letter.reason) == ("undecodable", record.unreadable)
    assert isinstance(decode_vector_event(record), Malformed)


def old_batch_of(magic: Old, values: Sequence[bytes], name: str, *, last: int, key: bytes | None = None) -> bytes:
    """In the formats before Kafka 0.11, whose segments still lie about; with the offset that a broker gives it."""
    made = LegacyRecordBatchBuilder(magic, CODECS[name], 1 << 20)
    for n, value in enumerate(values):
        offset = n if magic else last - len(values) + 1 + n
        assert made.append(offset, 1000 + n if magic else None, b"k%d" % n, value) is not None
    data = bytearray(made.build())
    data[:8] = last.to_bytes(8, "big")
    if key is not None:  # as no broker writes it, but the format allows
        place = 26 if magic else 18
        data[place : place + 4] = len(key).to_bytes(4, "big") + key
        data[8:12] = (len(data) - 12).to_bytes(4, "big")
        data[12:16] = crc32(data[16:]).to_bytes(4, "big")
    return bytes(data)


OLD_FORMATS: list[tuple[Old, str]] = [(0, "gzip"), (0, "snappy"), (1, "gzip"), (1, "snappy"), (1, "lz4")]


@pytest.mark.parametrize("key", [None, b"a key"], ids=["no key", "key"])
@pytest.mark.parametrize(("magic", "name"), OLD_FORMATS)
def test_it_does_for_batches_in_the_older_formats(
    magic: Old, name: str, key: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lenient_records, "LARGEST_BATCH", 100_000)
    data = old_batch_of(magic, [b"a", b"b"], name, last=4, key=key)
    data += old_batch_of(magic, [bytes(60_000)] * 3, name, last=7, key=key)
    data += old_batch_of(magic, [b"z" * 200_000], "none", last=8)  # which is what it is
    records, found = LenientRecords(data), []
    while records.has_next():
        batch = records.next_batch()
        assert batch is not None
        assert batch.validate_crc()
        found += [record_of(TopicPartition("texts", 3), record) for record in batch]
    starts = [(record.offset, (record.value or b"")[:1]) for record in found]
    assert starts == [(3, b"a"), (4, b"b"), (7, b""), (8, b"z")]
    assert [record.unreadable for record in found[:2] + found[3:]] == [None] * 3
    reason = f"a batch in the format v{magic}, up to offset 7, decompresses to more than 100000 bytes: none of "
    assert str(found[2].unreadable).startswith(reason)
    assert [type(record.timestamp) for record in found] == [int] * 4
    assert isinstance(Decoder().decode(found[2], Origin(found[2].tp, 7, 1)), DeadLetter)


@pytest.mark.parametrize(("magic", "codec_number"), [(0, 3), (0, 4), (1, 4), (1, 7), (2, 5), (2, 7)])
def test_it_does_for_a_batch_in_a_codec_that_nobody_knows(magic: int, codec_number: int) -> None:
    """Row 38's kind: else it would stop its partition for ever. LZ4 in the oldest format is framed in another way."""
    if magic == 2:
        data = bytearray(batch_of([b"late"], "gzip"))
        data[22] = codec_number
        data[17:21] = crc32c(bytes(data[21:])).to_bytes(4, "big")
    else:
        data = bytearray(old_batch_of(0 if magic == 0 else 1, [b"late"], "gzip", last=0))
        data[17] = codec_number
        data[12:16] = crc32(data[16:]).to_bytes(4, "big")
    records = LenientRecords(bytes(data) + batch_of([b"after"], "gzip"))
    found: list[Record] = []
    while (batch := records.next_batch()) is not None:
        assert batch.validate_crc()
        found += [record_of(TopicPartition("texts", 3), record) for record in batch]
    first, second = found
    why = f"is compressed in a way that is not known (codec {codec_number}): none of them is read"
    assert why in str(first.unreadable)
    assert (first.offset, first.value, second.value) == (0, None, b"after")


@pytest.mark.parametrize(("magic", "name"), OLD_FORMATS)
def test_it_does_for_a_batch_that_was_compressed_twice(magic: Old, name: str) -> None:
    """Row 38's kind, as mirrors of old clusters made them: the client asserts that there are none."""
    once = old_batch_of(magic, [b"late"], name, last=4)
    data = old_batch_of(magic, [b"?"], name, last=4)
    packed = ENCODE[CODECS[name]](once)
    data = data[: len(data) - 4 - int.from_bytes(data[(22 if magic == 0 else 30) :][:4], "big")]
    data += len(packed).to_bytes(4, "big") + packed
    data = data[:8] + (len(data) - 12).to_bytes(4, "big") + crc32(data[16:]).to_bytes(4, "big") + data[16:]
    records = LenientRecords(data + old_batch_of(magic, [b"after"], name, last=5))
    found: list[Record] = []
    while (batch := records.next_batch()) is not None:
        assert batch.validate_crc()
        found += [record_of(TopicPartition("texts", 3), record) for record in batch]
    assert [(record.offset, record.value) for record in found] == [(4, None), (5, b"after")]
    assert "is not read: MessageSet at offset 4 appears double-compressed" in str(found[0].unreadable)


@pytest.mark.parametrize(("magic", "name"), OLD_FORMATS)
def test_an_old_batch_that_is_cut_short_is_the_clients_to_refuse(magic: Old, name: str) -> None:
    data = old_batch_of(magic, [b"late" * 100], name, last=0)
    for end in range(26, len(data)):
        cut = bytearray(data[:end])
        cut[8:12] = (end - 12).to_bytes(4, "big")
        with pytest.raises(CorruptRecordException):
            LenientRecords(bytes(cut)).next_batch()


@pytest.mark.anyio
@pytest.mark.real_kafka("batches as clients make them")
async def test_a_batch_that_is_too_large_is_stepped_over(
    bootstrap_servers: str, new_topic: NewTopicName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the worker and by the indexer; a worker that takes over in the midst of it too."""
    monkeypatch.setattr(lenient_records, "LARGEST_BATCH", 100_000)
    topic = await new_topic("bombs")
    for name in CODECS:
        await produce_raw(bootstrap_servers, topic, [(b"k", bytes(60_000), []) for _ in range(3)], codecs=[name])
    await produce_raw(bootstrap_servers, topic, [(b"after", b"v", [])])
    connection, tp = KafkaConnection(bootstrap_servers=bootstrap_servers), TopicPartition(topic, 0)
    source, changelog = KafkaSource(connection, [topic], f"group-{topic}"), KafkaChangelog(connection, topic, None)
    await source.start(Owner())
    await changelog.start()
    try:
        with anyio.fail_after(60):
            for poll in (partial(source.poll, [tp]), changelog.poll):
                found: list[Record] = []
                while not found or found[-1].key != b"after":
                    found += await poll(0.2)
                assert [record.offset for record in found] == [0, 1, 2, 5, 8, 11, 14, 15]
                assert [record.offset for record in found if record.unreadable] == [5, 8, 11, 14]
    finally:
        await source.aclose()
        await changelog.aclose()
    assert (source.statistics().poll_failures_total, source.statistics().unreadable_records_total) == (0, 4)


class Owner:
    async def on_assigned(self, tps: Any) -> None: ...

    async def on_revoked(self, tps: Any) -> None: ...

    async def on_lost(self, tps: Any) -> None: ...
