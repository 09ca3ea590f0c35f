"""Quix Streams: a streaming dataframe from topic to topic."""

from __future__ import annotations

from typing import Any

from quixstreams import Application, message_context

from tests.bench.peers.job import GROUP, SERVERS, SOURCE, TARGET, embed, vector_event


def embedded(document: dict[str, Any], key: bytes, timestamp: int, headers: Any) -> bytes:
    context = message_context()
    (vector,) = embed([document["text"]])
    return vector_event(key, document, vector, (context.partition, context.offset, timestamp))


def main() -> None:
    app = Application(broker_address=SERVERS, consumer_group=GROUP, auto_offset_reset="earliest", loglevel="WARNING")
    source = app.topic(SOURCE, key_deserializer="bytes", value_deserializer="json")
    target = app.topic(TARGET, key_serializer="bytes", value_serializer="bytes")
    app.dataframe(source).apply(embedded, metadata=True).to_topic(target)
    app.run()


if __name__ == "__main__":
    main()
