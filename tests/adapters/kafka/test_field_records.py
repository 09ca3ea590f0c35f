"""Field case 38: times and codecs as any client may send them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.decoding import Decoder
from streamer.core.events import EmbeddedEvent, Event, Origin, Record, TopicPartition
from streamer.core.vector_events import VectorEvent, decode_vector_event
from streamer.testing import SPACE, vector_of
from streamer.worker.encoding import Encoder
from tests.support.brokers import NewTopicName
from tests.support.raw_headers import CODECS, Raw, produce_raw

TIMES: list[int | None] = [-1, 0, 1, 1_700_000_000_123, None]


class Owner:
    async def on_assigned(self, tps: Any) -> None: ...

    async def on_revoked(self, tps: Any) -> None: ...

    async def on_lost(self, tps: Any) -> None: ...


async def polled(connection: KafkaConnection, topic: str, count: int) -> Sequence[Record]:
    source = KafkaSource(connection, [topic], f"group-{topic}")
    await source.start(Owner())
    found: list[Record] = []
    try:
        while len(found) < count:
            found += await source.poll([TopicPartition(topic, 0)], 0.2)
    finally:
        await source.aclose()
    return found


@pytest.mark.anyio
@pytest.mark.real_kafka("times and codecs")
@pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
async def test_row_38_records_of_any_time_and_codec_become_vectors(
    kind: str, bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    texts, vectors = await new_topic("times", configs={"message.timestamp.type": kind}), await new_topic("vectors")
    raws: list[Raw] = [(b"k%d" % n, b"late %d" % n, []) for n in range(len(TIMES))]
    for codec in CODECS:
        await produce_raw(bootstrap_servers, texts, raws, timestamps=TIMES, codecs=[codec])
    connection, count = KafkaConnection(bootstrap_servers=bootstrap_servers), len(CODECS) * len(TIMES)
    encoder = Encoder(space=SPACE, vectors_topic=vectors, dead_letters_topic="none")
    sink, changelog = KafkaSink(connection), KafkaChangelog(connection, vectors, None)
    with anyio.fail_after(60):
        records = await polled(connection, texts, count)
        await sink.start()
        await changelog.start()
        try:
            messages = []
            for record in records:
                event = Decoder().decode(record, Origin(record.tp, record.offset, 1))
                assert isinstance(event, Event), event
                outcome = EmbeddedEvent(event, vector_of(event.text), 3, truncated=False, cache_hit=False)
                messages.append(encoder.encode(outcome, 0)[1])
            acknowledged = await sink.send(messages)
            await acknowledged()
            found: list[Record] = []
            while len(found) < count:
                found += await changelog.poll(0.2)
        finally:
            await sink.aclose()
            await changelog.aclose()
    read = [decode_vector_event(record) for record in found]
    sources = [event.source for event in read if isinstance(event, VectorEvent) and event.source is not None]
    assert [source.offset for source in sources] == list(range(count))
    if kind == "CreateTime":
        assert [source.timestamp for source in sources[:4]] == TIMES[:4]
