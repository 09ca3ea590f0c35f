"""A record of the client as one of ours."""

from __future__ import annotations

from aiokafka import ConsumerRecord

from streamer.adapters.kafka.records import record_of
from streamer.core.events import Record, TopicPartition


def test_everything_is_taken_over_and_a_null_header_is_an_empty_one() -> None:
    theirs: ConsumerRecord[bytes, bytes] = ConsumerRecord(
        topic="texts", partition=3, offset=7, timestamp=1_700_000_000_000, timestamp_type=0, key=b"k", value=None,
        checksum=None, serialized_key_size=1, serialized_value_size=-1, headers=[("a", b"1"), ("b", None)],
    )  # fmt: skip
    expected = Record(TopicPartition("texts", 3), 7, b"k", None, 1_700_000_000_000, (("a", b"1"), ("b", b"")))
    assert record_of(theirs) == expected
