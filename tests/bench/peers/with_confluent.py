"""confluent-kafka alone: consume, produce, flush, commit."""

from __future__ import annotations

import orjson
from confluent_kafka import Consumer, KafkaException, Producer

from tests.bench.peers.job import GROUP, SERVERS, SOURCE, TARGET, embed, vector_event


def main() -> None:
    consumer = Consumer(
        {"bootstrap.servers": SERVERS, "group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    producer = Producer({"bootstrap.servers": SERVERS, "enable.idempotence": True, "linger.ms": 5})
    consumer.subscribe([SOURCE])
    while True:
        messages = consumer.consume(1000, 0.2)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
        if not messages:
            continue
        documents = [orjson.loads(message.value() or b"") for message in messages]
        vectors = embed([document["text"] for document in documents])
        for message, document, vector in zip(messages, documents, vectors, strict=True):
            key = message.key() or b""
            key = key if isinstance(key, bytes) else key.encode()
            source = (message.partition() or 0, message.offset() or 0, message.timestamp()[1])
            producer.produce(TARGET, vector_event(key, document, vector, source), key)
            producer.poll(0)
        producer.flush()
        consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
