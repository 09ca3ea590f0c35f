"""Field cases 13 and F7: header names that are not UTF-8."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.lenient_records import LenientRecords
from streamer.adapters.kafka.records import record_of
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.events import Record, TopicPartition
from tests.support.brokers import NewTopicName
from tests.support.raw_headers import builder, name_of, produce_raw

pytestmark = pytest.mark.anyio

BAD = b"tr\xffce"
NAMES = [b"good", BAD, b"", BAD, "é".encode(), b"\xed\xa0\xbd", b"last"]


def batch_of(names: Sequence[bytes]) -> bytes:
    made = builder()
    for n, name in enumerate(names):
        headers = [(name_of(name), b"x"), ("null", None)]
        assert made.append(n, 1000 + n, b"k%d" % n, None if n == 2 else b"v%d" % n, headers) is not None
    return bytes(made.build())


def read(data: bytes) -> list[Any]:
    records, found = LenientRecords(data), []
    while records.has_next():
        batch = records.next_batch()
        assert batch is not None
        assert batch.validate_crc()
        assert batch.next_offset == batch.base_offset + batch.last_offset_delta + 1
        found += list(batch)
    return found


def test_every_record_of_a_batch_is_handed_over_with_what_can_be_read_of_it() -> None:
    found = read(batch_of([b"before"]) + batch_of(NAMES) + batch_of([b"after", BAD]))
    middle = found[1:8]
    assert [(r.offset, r.timestamp, r.key, r.value) for r in middle] == [
        (n, 1000 + n, b"k%d" % n, None if n == 2 else b"v%d" % n) for n in range(7)
    ]
    assert [r.headers[0][0].encode("utf-8", "surrogateescape") for r in middle] == NAMES
    assert all(r.headers[1] == ("null", None) for r in middle)
    assert len(found) == 10


def test_a_batch_with_good_names_is_read_by_the_client_alone() -> None:
    (record,) = read(batch_of([b"good"]))
    assert "_crecords" in type(record).__module__


def test_a_damaged_record_is_still_refused() -> None:
    data = bytearray(batch_of([BAD, b"good"]))
    at = data.index(b"k1") - 1
    data[at] = 0x7F  # the key now reaches beyond the record
    records = LenientRecords(bytes(data))
    batch = records.next_batch()
    assert batch is not None
    with pytest.raises((CorruptRecordException, IndexError)):
        list(batch)


def test_a_byte_that_is_another_one_anywhere_is_noticed() -> None:
    """As the client notices it, of which the checksum is taken over here."""
    intact = batch_of([b"good"])
    for place in range(17, len(intact)):
        data = bytearray(intact)
        data[place] ^= 1
        batch = LenientRecords(bytes(data)).next_batch()
        assert batch is not None
        assert not batch.validate_crc(), place
        assert not MemoryRecords(bytes(data)).next_batch().validate_crc()


def test_the_record_says_what_is_missing() -> None:
    class Client:
        offset, key, value, timestamp = 7, b"k", b"v", 1
        headers = (("good", None), (BAD.decode("utf-8", "surrogateescape"), b"x"))

    record = record_of(TopicPartition("t", 0), Client)
    assert record.headers == (("good", b""),)
    assert r"tr\xffce" in str(record.unreadable)


class Owner:
    async def on_assigned(self, tps: Any) -> None: ...

    async def on_revoked(self, tps: Any) -> None: ...

    async def on_lost(self, tps: Any) -> None: ...


@pytest.mark.real_kafka("header names of any bytes")
async def test_rows_13_and_f7_a_bad_name_does_not_stop_its_partition(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    """Field cases 13 and F7: the worker and the indexer read on."""
    topic = await new_topic("odd")
    await produce_raw(bootstrap_servers, topic, [(b"k%d" % n, b"v", [(name, b"x")]) for n, name in enumerate(NAMES)])
    await produce_raw(bootstrap_servers, topic, [(b"after", b"v", [])])
    connection, tp = KafkaConnection(bootstrap_servers=bootstrap_servers), TopicPartition(topic, 0)
    source = KafkaSource(connection, [topic], f"group-{topic}")
    changelog = KafkaChangelog(connection, topic, None)
    await source.start(Owner())
    await changelog.start()
    try:
        with anyio.fail_after(60):
            polls: list[Callable[[float], Awaitable[Sequence[Record]]]] = [partial(source.poll, [tp]), changelog.poll]
            for poll in polls:
                found: list[Record] = []
                while len(found) < len(NAMES) + 1:
                    found += await poll(0.2)
                assert [record.offset for record in found] == list(range(len(NAMES) + 1))
                assert [n for n, record in enumerate(found) if record.unreadable] == [1, 3, 5]
    finally:
        await source.aclose()
        await changelog.aclose()
    assert (source.statistics().poll_failures_total, source.statistics().unreadable_records_total) == (0, 3)
