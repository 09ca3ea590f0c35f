"""The client for Python programs, against a real broker and a real indexer's API."""

from __future__ import annotations

import anyio
import numpy as np
import orjson
import pytest

from streamer.client import (
    Deletion,
    SearchClient,
    SearchMatch,
    Text,
    TextProducer,
    VectorConsumer,
    VectorEvent,
    VerdictConsumer,
)
from streamer.core.events import TopicPartition
from streamer.core.vector_events import TextSource
from streamer.core.verdicts import Match, Verdict, encode_verdict
from streamer.errors import StreamerError, Unreachable
from tests.support.brokers import Broker, NewTopicName
from tests.support.indexing import Running, Topic
from tests.support.serving import DegreesEmbedder, serving_an_index
from tests.support.topics import produce, read_all

pytestmark = pytest.mark.anyio

VERDICT = Verdict(
    id="b", verdict="near_duplicate", similarity=0.9, duplicate_of="a", nearest=[Match("a", 0.9)], space="s",
    source=TextSource(TopicPartition("texts", 1), 7, 5), score=0.3, p_value=0.5,
)  # fmt: skip


@pytest.mark.kafka
async def test_texts_are_published_as_workers_read_them(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic("texts", partitions=1)
    async with TextProducer(broker.bootstrap_servers, topic, idempotent=broker.is_real) as producer:
        await producer.send("hello", id="a", metadata={"lang": "en"})
        await producer.send_many([Text("again", "a"), Text("nameless")])
        await producer.delete("a")
    records = await read_all(broker.bootstrap_servers, topic)
    assert [(record.key, record.value and orjson.loads(record.value)) for record in records] == [
        (b"a", {"lang": "en", "text": "hello"}),
        (b"a", {"text": "again"}),
        (None, {"text": "nameless"}),
        (b"a", None),
    ]


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
    message = encode_verdict(VERDICT, topic)
    await produce(broker.bootstrap_servers, topic, [(b"%d" % i, message.value) for i in range(4)])
    async with VerdictConsumer(broker.bootstrap_servers, topic, group_id=f"group-{topic}") as consumer:
        with anyio.fail_after(30):
            events = aiter(consumer)
            assert [await anext(events) for _ in range(3)] == [VERDICT] * 3
            await events.aclose()  # type: ignore[attr-defined]  # what `break` does, only at once
    seen = []
    async with VerdictConsumer(broker.bootstrap_servers, topic, group_id=f"group-{topic}") as consumer:
        with anyio.fail_after(30):
            async for verdict in consumer:
                seen.append(verdict)
                if len(seen) == 2:
                    break
    assert len(seen) == 2  # the third was handed over, but nobody asked for what follows it


async def test_a_broker_that_is_not_there(free_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        async with TextProducer(f"127.0.0.1:{free_tcp_port}"):
            raise AssertionError("entered")


async def test_every_kind_of_search_through_the_client() -> None:
    topic = Topic()
    topic.append("id/0 ?", 0, text="hello", lang="en")
    topic.append("id-1", 30)
    served = serving_an_index(topic, DegreesEmbedder())
    async with served as (http, this), SearchClient(str(http.base_url)) as index:
        assert await index.search("0", k=1) == [SearchMatch("id/0 ?", 1.0, "hello", {"lang": "en"})]
        assert [match.id for match in await index.search(id="id/0 ?")] == ["id-1"]
        query = np.array([0, 1], np.float32)
        assert [match.id for match in await index.search(vector=query, where={"lang": "en"})] == ["id/0 ?"]
        assert await index.search(vector=query, min_similarity=0.9) == []
        assert (await index.vector("id/0 ?")).tolist() == [1, 0]
        assert (await index.statistics())["vectors"] == 2
        with pytest.raises(StreamerError, match=r"refused \(404\): no vector of id 'nobody' is known"):
            await index.vector("nobody")
        with pytest.raises(StreamerError, match="exactly one of"):
            await index.search()
        live = index.verdicts()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_append_when_heard, this, topic)
            with anyio.fail_after(20):
                assert (await anext(live)).id == "late"
        this.indexer.stop()
        assert [verdict async for verdict in live] == []
    async with SearchClient(str(http.base_url)) as index:
        with pytest.raises(Unreachable, match="no indexer answers"):
            await index.statistics()


async def _append_when_heard(this: Running, topic: Topic) -> None:
    await this.until(lambda: this.indexer.statistics().live_listeners == 1)
    topic.append("late", 60)
