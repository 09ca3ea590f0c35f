"""What spans are told, and that nothing is asked for while nobody records."""

from __future__ import annotations

import pytest

from streamer.core.events import TopicPartition
from streamer.telemetry.tracing import ConsumerTracing, consumed, context_of, trace_of
from streamer.testing import record

A, B = TopicPartition("texts", 0), TopicPartition("texts", 1)


def test_a_batch_of_one_partition_names_it_and_one_of_several_only_their_topic() -> None:
    one = consumed("g", [A, A], 2)
    assert one["messaging.destination.name"] == "texts"
    assert one["messaging.destination.partition.id"] == "0"
    assert one["messaging.batch.message_count"] == 2
    assert one["messaging.consumer.group.name"] == "g"
    assert "messaging.destination.partition.id" not in consumed("g", [A, B], 2)
    assert "messaging.destination.name" not in consumed("g", [A, TopicPartition("more", 0)], 2)


def test_without_anybody_who_records_there_is_no_span() -> None:
    with ConsumerTracing().span([record(A, 0, b"", b"k")]) as span:
        assert span is None


@pytest.mark.parametrize(
    ("value", "trace"),
    [
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        (b"00-0af7-b7ad6b7169203331-01", None),
        (b"nonsense", None),
    ],
)
def test_the_trace_id_of_a_header(value: bytes, trace: str | None) -> None:
    assert trace_of((("other", b"x"), ("traceparent", value))) == trace
    assert trace_of(()) is None


def test_a_context_is_passed_on_without_what_is_beside_it_and_without_what_nobody_has_to_carry() -> None:
    parent, state = ("traceparent", b"00-0af7-b7-01"), ("tracestate", b"vendor=1")
    assert context_of((("other", b"x"), parent, state)) == (parent, state)
    assert context_of((parent, ("tracestate", b"x" * 513))) == (parent,)
    assert context_of((state,)) == ()
