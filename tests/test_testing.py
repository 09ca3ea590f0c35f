"""streamer.testing: what it makes is what the real parts make."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.client import Deletion, TextSource, TopicPartition, Verdict, VerdictConsumer
from streamer.core.vector_events import decode_vector_event
from streamer.core.verdicts import decode_verdict
from streamer.protocols import Embedder, Provider, Sink, Source, VectorCache
from streamer.testing import (
    HashEmbedder,
    HashProvider,
    MemoryCache,
    MemoryConsumer,
    MemorySink,
    MemorySource,
    record,
    record_of,
    vector_event,
    vector_of,
    verdict,
)

TP = TopicPartition("texts", 1)


def test_the_fakes_have_the_protocols_types() -> None:
    """For mypy: it refuses this function when one of them has drifted."""
    provider: Provider = HashProvider()
    embedder: Embedder = HashEmbedder()
    cache: VectorCache = MemoryCache()
    source: Source = MemorySource({})
    sink: Sink = MemorySink()
    assert all((provider, embedder, cache, source, sink))


def test_records_read_back_as_the_events_they_were_made_of() -> None:
    source = TextSource(TP, 3, 7)
    event = vector_event("hello", id="a", metadata={"lang": "en"}, source=source)
    carried = record_of(event)
    read = decode_vector_event(carried)
    assert read == event_equal(read, event)
    assert dict(carried.headers)["streamer-space"].decode() == event.space
    assert decode_vector_event(record_of(Deletion("a"))) == Deletion("a")
    made = verdict("a", "near_duplicate", duplicate_of="b", similarity=0.9, source=source, nearest=[])
    carried = record_of(made, offset=4)
    assert (decode_verdict(carried), carried.tp.topic, carried.offset) == (made, "verdicts", 4)


def event_equal(read: object, event: object) -> object:
    """`read`, if every field is equal; arrays have no single truth value."""
    for name in ("id", "space", "model", "source", "text", "metadata", "timestamp"):
        assert getattr(read, name) == getattr(event, name), name
    np.testing.assert_array_equal(getattr(read, "vector"), getattr(event, "vector"))  # noqa: B009
    return read


def test_vectors_are_of_unit_length_and_of_their_text_only() -> None:
    assert np.linalg.norm(vector_of("a", 100)) == pytest.approx(1)
    np.testing.assert_array_equal(vector_of("a"), vector_of("a"))
    assert not np.array_equal(vector_of("a"), vector_of("b"))


@pytest.mark.anyio
async def test_code_that_consumes_verdicts_is_tested_without_kafka() -> None:
    async def alerts(consumer: VerdictConsumer | MemoryConsumer[Verdict]) -> list[str]:
        async with consumer as verdicts:
            return [found.id async for found in verdicts if found.verdict == "anomaly"]

    assert await alerts(MemoryConsumer([verdict("a"), verdict("b", "anomaly")])) == ["b"]


@pytest.mark.anyio
async def test_the_source_refuses_a_lost_partition_and_rewinds_to_what_is_committed() -> None:
    source = MemorySource({TP: [record(TP, offset, b"x") for offset in (0, 1, 5)]}, max_records=2)
    assert [found.offset for found in await source.poll([TP], 0.0)] == [0, 1]
    await source.commit({TP: 1})
    source.rewind()
    assert [found.offset for found in await source.poll([TP], 0.0)] == [1, 5]
    with pytest.raises(ValueError, match="must name a partition"):
        await source.poll([], 0.0)
