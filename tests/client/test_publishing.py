"""TextProducer, on a real broker."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import anyio
import orjson
import pytest

from streamer.client import ConfigurationError, Text, TextProducer, Unreachable
from streamer.core.decoding import Decoder
from streamer.core.events import Event, Origin, Record, TopicPartition
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


@pytest.mark.parametrize(
    ("field", "metadata", "value"),
    [
        ("data.body", {"data": {"n": 1}}, {"data": {"n": 1, "body": "hello"}}),
        ("body", {"text": "a summary"}, {"text": "a summary", "body": "hello"}),
        ("a.b.c", None, {"a": {"b": {"c": "hello"}}}),
        ("Review Text", {"lang": "en"}, {"lang": "en", "Review Text": "hello"}),
        ("text", {"stars": 5}, {"stars": 5, "text": "hello"}),
        ("text", {"text": "hello"}, {"text": "hello"}),
    ],
)
async def test_texts_go_where_the_workers_setting_says(field: str, metadata: Any, value: Any) -> None:
    """First hour D8."""
    producer = TextProducer("127.0.0.1:1", text_field=field)
    message = producer._message(Text("hello", "a", metadata))
    await producer.__aexit__()
    assert orjson.loads(message.value or b"") == value
    tp = TopicPartition("texts", 0)
    event = Decoder(text_field=field).decode(Record(tp, 0, message.key, message.value, 0), Origin(tp, 0, 1))
    assert isinstance(event, Event), event
    assert (event.id, event.text) == ("a", "hello")


@pytest.mark.parametrize(
    ("field", "metadata"), [("data.body", {"data": "a string"}), ("body", {"body": "mine"}), ("a.b", {"a": [1]})]
)
async def test_metadata_that_stand_in_the_way_of_the_text_are_refused(field: str, metadata: Any) -> None:
    """First hour D8."""
    producer = TextProducer("127.0.0.1:1", text_field=field)
    try:
        with pytest.raises(ConfigurationError, match=f"cannot be put at '{field}' of the metadata: '"):
            producer._message(Text("hello", metadata=metadata))
    finally:
        await producer.__aexit__()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (Text(None), "a text is a string, not NoneType"),  # type: ignore[arg-type]
        (Text(b"late"), "a text is a string, not bytes"),  # type: ignore[arg-type]
        (Text("late", 7), "an id is a string, not int: str(7) makes one"),  # type: ignore[arg-type]
        (Text("late", UUID(int=7)), "an id is a string, not UUID"),  # type: ignore[arg-type]
        (Text("late", "a\x00"), "the id holds the control character U+0000"),
        (Text("late", "k" * 5000), "the id has 5000 bytes, the limit is 4096"),
        (Text("late", metadata={"price": Decimal("1.5")}), "the metadata cannot be written as JSON: Type is not JSON"),
        (
            Text("late", metadata={"title": "cut \ud83d"}),
            "the metadata cannot be written as JSON: str is not valid UTF-8",
        ),
        (Text("late", metadata={"n": 2**70}), "the metadata cannot be written as JSON: Integer exceeds 64-bit range"),
        (Text("late", metadata={7: "x"}), "the metadata cannot be written as JSON: Dict key must be str"),  # type: ignore[dict-item]
    ],
)
async def test_row_32_what_no_worker_could_read_is_an_error_of_ours(text: Text, says: str) -> None:
    producer = TextProducer("127.0.0.1:1")
    try:
        with pytest.raises(ConfigurationError) as raised:
            await producer.send_many([Text("good"), text])
    finally:
        await producer.__aexit__()
    assert str(raised.value).startswith(says)


async def test_row_32_halves_of_surrogate_pairs_are_replaced() -> None:
    producer = TextProducer("127.0.0.1:1")
    message = producer._message(Text("cut \ud83d", "id \ud83d"))
    await producer.__aexit__()
    assert message.key == "id \ufffd".encode()
    assert orjson.loads(message.value or b"") == {"text": "cut \ufffd"}


@pytest.mark.kafka
async def test_a_topic_that_is_not_there_is_told_at_once_with_those_that_are(
    broker: Broker, new_topic: NewTopicName
) -> None:
    """First hour D9."""
    topic = await new_topic("texts")
    producer = TextProducer(broker.bootstrap_servers, topic[:-1] + "x", idempotent=broker.is_real)
    with anyio.fail_after(20), pytest.raises(Unreachable, match=f"does not exist at .*; there are {topic}") as raised:
        async with producer:
            raise AssertionError("entered")
    assert "streamer topics --create --input" in str(raised.value)


async def test_a_broker_that_is_not_there(free_tcp_port: int) -> None:
    """First hour R12."""
    with pytest.raises(Unreachable, match="cannot be reached"):
        async with TextProducer(f"127.0.0.1:{free_tcp_port}"):
            raise AssertionError("entered")
