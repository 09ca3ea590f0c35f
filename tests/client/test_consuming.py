"""VectorConsumer and VerdictConsumer, on a real broker."""

from __future__ import annotations

from dataclasses import replace

import anyio
import orjson
import pytest

from streamer.client import (
    Deletion,
    NearestEvent,
    TextSource,
    TopicPartition,
    VectorConsumer,
    VectorEvent,
    Verdict,
    VerdictConsumer,
)
from streamer.core.verdicts import encode_verdict
from tests.support.brokers import Broker, NewTopicName
from tests.support.topics import committed, produce

pytestmark = pytest.mark.anyio

VERDICT = Verdict(
    id="b", verdict="near_duplicate", similarity=0.9, duplicate_of="a", nearest=[NearestEvent("a", 0.9)], space="s",
    source=TextSource(TopicPartition("texts", 1), 7, 5), score=0.3, p_value=0.5,
)  # fmt: skip


@pytest.mark.kafka
async def test_vectors_and_deletions_are_read(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic("vectors", partitions=1)
    vector = {"id": "a", "vector": [0.6, 0.8], "space": "s", "dimensions": 2, "text": "hello"}
    await produce(broker.bootstrap_servers, topic, [(b"a", orjson.dumps(vector)), (b"x", b"junk"), (b"a", None)])
    found = []
    async with VectorConsumer(broker.bootstrap_servers, topic) as consumer:
        with anyio.fail_after(20):
            async for event in consumer:
                found.append(event)
                if len(found) == 2:
                    break
        assert consumer.malformed == 1
    first, second = found
    assert isinstance(first, VectorEvent)
    assert (first.id, first.text, first.vector.tolist()) == ("a", "hello", pytest.approx([0.6, 0.8]))
    assert second == Deletion("a")


@pytest.mark.real_kafka("consumer groups that remember offsets")
async def test_a_group_goes_on_where_it_stopped(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic("verdicts", partitions=1)
    group = f"group-{topic}"
    messages = [encode_verdict(replace(VERDICT, id=str(i)), topic) for i in range(4)]
    await produce(broker.bootstrap_servers, topic, [(message.key, message.value) for message in messages])
    async with VerdictConsumer(broker.bootstrap_servers, topic, group_id=group) as consumer:
        with anyio.fail_after(30):
            events = aiter(consumer)
            assert [(await anext(events)).id for _ in range(3)] == ["0", "1", "2"]
            await events.aclose()  # type: ignore[attr-defined]  # what `break` does, only at once
    assert await committed(broker.bootstrap_servers, group, topic) == {0: 2}
    seen = []
    async with VerdictConsumer(broker.bootstrap_servers, topic, group_id=group) as consumer:
        with anyio.fail_after(30):
            async for verdict in consumer:
                seen.append(verdict)
                if len(seen) == 2:
                    break
    # The third was handed over, but nobody asked for what follows it.
    assert seen == [replace(VERDICT, id="2"), replace(VERDICT, id="3")]
