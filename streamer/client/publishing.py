"""Texts to the text topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson
from anyio import CancelScope

from streamer.adapters.kafka.connection import KafkaConnection, connection_to
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.topics import check_existence
from streamer.core.events import Message
from streamer.core.reading import Unreadable, check_id, well_formed
from streamer.core.text_fields import put_text
from streamer.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Text:
    """A text to publish. Without an `id`, the event id is `topic-partition-offset`."""

    text: str
    id: str | None = None
    metadata: Mapping[str, Any] | None = None


class TextProducer:
    """Publishes texts to the text topic, as JSON objects: the text in the field `text`, or in `text_field`, metadata as
    further fields.

    Use it as an async context manager. While brokers are away, sending waits for them. Raises Unreachable when no
    broker answers at the start or the topic does not exist, and Refused when the broker takes all of the messages but
    some (TooLarge: for their size). A text, id or metadata that no worker could read is a ConfigurationError, and
    nothing is sent.
    """

    def __init__(
        self,
        brokers: str | KafkaConnection,
        topic: str = "texts",
        *,
        text_field: str = "text",
        idempotent: bool = True,
    ) -> None:
        """`brokers`: "host:port", several separated by commas, or a KafkaConnection with credentials.

        `text_field`: where the text goes, which is the workers' `input.text_field`; dots reach inside. `idempotent`:
        False for brokers without idempotent producers, such as the demo's.
        """
        self._topic = topic
        self._text_field = text_field
        self._connection = connection_to(brokers)
        self._sink = KafkaSink(self._connection, idempotent=idempotent)

    async def __aenter__(self) -> Self:
        await self._sink.start()
        try:
            await check_existence(self._connection, [self._topic])
        except BaseException:
            with CancelScope(shield=True):
                await self._sink.aclose()
            raise
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
        """Publish a tombstone: the index forgets the event `id`, and compaction removes its records."""
        await self._publish([Message(self._topic, _key(id), None, ())])

    def _message(self, text: Text) -> Message:
        if not isinstance(text.text, str):
            raise ConfigurationError(f"a text is a string, not {type(text.text).__name__}")
        try:
            fields = put_text(text.metadata or {}, self._text_field, well_formed(text.text), replace=False)
        except ValueError as exc:
            raise ConfigurationError(f"the text cannot be put at {self._text_field!r} of the metadata: {exc}") from exc
        try:
            body = orjson.dumps(fields)
        except (TypeError, ValueError) as exc:  # of orjson: it says which type, or that a string is not well-formed
            raise ConfigurationError(f"the metadata cannot be written as JSON: {exc}") from exc
        key = None if text.id is None else _key(text.id)
        return Message(self._topic, key, body, (("content-type", b"application/json"),))

    async def _publish(self, messages: list[Message]) -> None:
        acknowledged = await self._sink.send(messages)
        await acknowledged()


def _key(id: str) -> bytes:
    if not isinstance(id, str):
        raise ConfigurationError(f"an id is a string, not {type(id).__name__}: str({id!r:.50}) makes one")
    try:
        return check_id(well_formed(id)).encode()
    except Unreadable as exc:
        raise ConfigurationError(str(exc)) from exc
