"""A record of the client as one of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from aiokafka import ConsumerRecord
from aiokafka import TopicPartition as ClientPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from streamer.adapters.kafka.lenient_records import LenientRecords
from streamer.adapters.kafka.records import AS_OURS
from streamer.core.events import Record, TopicPartition
from tests.support.raw_headers import builder

TP = ClientPartition("texts", 3)


def batch() -> bytes:
    made = builder()
    for n, headers in enumerate(([], [("a", b"1"), ("b", None)])):
        assert made.append(n, 1000 + n, b"k", None if n else b"v", headers) is not None
    return bytes(made.build())


def fetched(data: bytes, key_deserializer: Callable[[bytes], Any] | None, start: int = 0) -> Any:
    return fetcher.PartitionRecords(TP, LenientRecords(data), [], start, key_deserializer, None, True, 0)


def test_our_consumers_hand_over_our_records_and_a_null_header_is_an_empty_one() -> None:
    found = fetched(batch(), AS_OURS)
    tp = TopicPartition("texts", 3)
    assert list(found) == [Record(tp, 0, b"k", b"v", 1000), Record(tp, 1, b"k", None, 1001, (("a", b"1"), ("b", b"")))]
    assert type(next(iter(fetched(batch(), AS_OURS))).tp) is TopicPartition
    assert found.next_fetch_offset == 2
    assert list(found) == []


@pytest.mark.parametrize(("magic", "timestamp"), [(0, -1), (1, 1000)])
def test_records_in_the_formats_before_headers_are_ours_too(magic: Literal[0, 1], timestamp: int) -> None:
    """A sibling of row 38. The oldest has no timestamps: among others, one of None ended the worker."""
    made = LegacyRecordBatchBuilder(magic, 0, 1 << 20)
    made.append(0, 1000 if magic else None, b"k", b"v")
    assert list(fetched(bytes(made.build()), AS_OURS)) == [Record(TopicPartition("texts", 3), 0, b"k", b"v", timestamp)]


@pytest.mark.parametrize("formats", ["v1 v2", "v0 v2", "v2 v1", "v0 v1 v2 v2 v0 v1", "v1 v2 v1 v2"])
@pytest.mark.parametrize("end", [0, 5, 16, 17, 40], ids=lambda size: f"and {size} bytes of the next")
def test_one_fetch_may_bring_batches_in_all_formats(formats: str, end: int) -> None:
    """As of a partition that has lived through an upgrade of its brokers."""
    data = b""
    for offset, each in enumerate(formats.split()):
        made: Any = builder() if each == "v2" else LegacyRecordBatchBuilder(int(each[1]), 0, 1 << 20)
        made.append(0, None if each == "v0" else 1000, b"k", each.encode(), *([[]] if each == "v2" else []))
        data += offset.to_bytes(8, "big") + bytes(made.build())[8:]
    whole = len(data)
    found = fetched(data + data[:end], AS_OURS)
    assert [(record.offset, record.value.decode()) for record in found] == list(enumerate(formats.split()))
    assert LenientRecords(data + data[:end]).size_in_bytes() == whole + end


def test_reading_goes_on_where_it_stopped() -> None:
    found = fetched(batch(), AS_OURS)
    for record in found:
        assert record.offset == 0
        break
    assert found.next_fetch_offset == 1
    assert [record.offset for record in found] == [1]
    assert [record.offset for record in fetched(batch(), AS_OURS, start=1)] == [1]


def test_damage_is_refused() -> None:
    data = bytearray(batch())
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        list(fetched(bytes(data), AS_OURS))


def test_other_consumers_of_the_process_get_what_they_are_used_to() -> None:
    first, _ = fetched(batch(), None)
    assert isinstance(first, ConsumerRecord)
    assert (first.topic, first.partition, first.key, first.serialized_value_size) == ("texts", 3, b"k", 1)
    upper, _ = fetched(batch(), bytes.upper)
    assert upper.key == b"K"
