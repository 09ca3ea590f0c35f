"""TextProducer, on a real broker."""

from __future__ import annotations

import anyio
import orjson
import pytest

from streamer.client import Text, TextProducer, Unreachable
from tests.support.brokers import Broker, NewTopicName
from tests.support.topics import read_all

pytestmark = pytest.mark.anyio


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


async def test_texts_go_where_the_workers_setting_says() -> None:
    producer = TextProducer("127.0.0.1:1", text_field="data.body")
    message = producer._message(Text("hello", metadata={"data": {"n": 1}}))
    await producer.__aexit__()
    assert orjson.loads(message.value or b"") == {"data": {"n": 1, "body": "hello"}}


@pytest.mark.kafka
async def test_a_topic_that_is_not_there_is_told_at_once_with_those_that_are(
    broker: Broker, new_topic: NewTopicName
) -> None:
    topic = await new_topic("texts")
    producer = TextProducer(broker.bootstrap_servers, topic[:-1] + "x", idempotent=broker.is_real)
    with anyio.fail_after(20), pytest.raises(Unreachable, match=f"does not exist at .*; there are {topic}") as raised:
        async with producer:
            raise AssertionError("entered")
    assert "streamer topics --create --input" in str(raised.value)


async def test_a_broker_that_is_not_there(free_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        async with TextProducer(f"127.0.0.1:{free_tcp_port}"):
            raise AssertionError("entered")
