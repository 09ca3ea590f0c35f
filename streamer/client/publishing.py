"""Texts to the text topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from streamer.adapters.kafka.connection import KafkaConnection, connection_to
from streamer.adapters.kafka.sink import KafkaSink
from streamer.core.events import Message


@dataclass(frozen=True, slots=True)
class Text:
    """A text to publish. Without an id it is called after its place in the topic."""

    text: str
    id: str | None = None
    metadata: Mapping[str, Any] | None = None


class TextProducer:
    """Publishes texts as JSON objects: the text at `text`, metadata beside it."""

    def __init__(self, brokers: str | KafkaConnection, topic: str = "texts", *, idempotent: bool = True) -> None:
        self._topic = topic
        self._sink = KafkaSink(connection_to(brokers), idempotent=idempotent)

    async def __aenter__(self) -> Self:
        await self._sink.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sink.aclose()

    async def send(self, text: str, *, id: str | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        """Publish a text and wait until the brokers have it."""
        await self.send_many([Text(text, id, metadata)])

    async def send_many(self, texts: Iterable[Text]) -> None:
        """Publish texts, in order for each id, and wait until the brokers have all of them."""
        await self._publish([self._message(text) for text in texts])

    async def delete(self, id: str) -> None:
        """Have an event forgotten: publish its tombstone."""
        await self._publish([Message(self._topic, id.encode(), None, ())])

    def _message(self, text: Text) -> Message:
        body = orjson.dumps({**(text.metadata or {}), "text": text.text})
        key = None if text.id is None else text.id.encode()
        return Message(self._topic, key, body, (("content-type", b"application/json"),))

    async def _publish(self, messages: list[Message]) -> None:
        acknowledged = await self._sink.send(messages)
        await acknowledged()
