"""Kafka clients and topics as the settings want them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.topics import TopicSpec, check_existence, check_topics
from streamer.app.connection import connection_of
from streamer.errors import Unreachable
from streamer.settings import Settings

LONGEST_SUCCESSION = 10.0  # seconds that an indexer waits for one that was killed
CLOSE_SECONDS = 5.0  # for a client to say goodbye to brokers that answer

log = structlog.get_logger(__name__)


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """The topics of a deployment. Vectors and verdicts are compacted: the last one of an id is the one that counts."""
    topics, kafka = settings.topics, settings.kafka
    size, copies = kafka.partitions, kafka.replication_factor
    compacted = {"cleanup.policy": "compact"}
    return [
        *(TopicSpec(name, size, copies) for name in topics.inputs),
        TopicSpec(topics.vectors, size, copies, compacted),
        TopicSpec(topics.verdicts, size, copies, compacted),
        TopicSpec(topics.dead_letters, 1, copies),
    ]


async def ensure_topics(settings: Settings, names: Collection[str]) -> None:
    """Check that these topics exist, creating missing ones if the settings allow it; else raises Unreachable.

    `names`: those that the role uses, so that it needs no rights on others.
    """
    specs = [spec for spec in topic_specs(settings) if spec.name in names]
    states = await check_topics(connection_of(settings), specs, create=settings.kafka.create_topics)
    missing = [state.name for state in states if not state.partitions]
    if missing:
        raise Unreachable(
            f"missing topics at {settings.kafka.bootstrap_servers}: {', '.join(missing)}; "
            "create them with: streamer topics --create (or set kafka.create_topics = true)"
        )
    for state in states:
        if state.created:
            log.info("topic created", topic=state.name, partitions=state.partitions)


async def require_topics(settings: Settings, names: Sequence[str]) -> None:
    """Raises Unreachable for an input topic that does not exist. It is not created here: a misspelt name would be."""
    await check_existence(connection_of(settings), names)


@asynccontextmanager
async def open_sink(settings: Settings, *, give_up_after: float | None = None) -> AsyncIterator[KafkaSink]:
    """`give_up_after`: seconds until a message without acknowledgement is an error; None waits for the brokers."""
    sink = KafkaSink(
        connection_of(settings),
        idempotent=settings.kafka.idempotent,
        compression=settings.kafka.compression,
        give_up_after=give_up_after,
    )
    await sink.start()
    try:
        yield sink
    finally:
        with anyio.CancelScope(shield=True):  # bounded; half-closed, the client would go on looking for its brokers
            # What brokers have not taken in the time of the drain they will not take in this one.
            await sink.aclose(CLOSE_SECONDS if sink.state() is None else CLOSE_SECONDS / 5)


@asynccontextmanager
async def open_changelog(
    settings: Settings, topic: str, group_id: str | None, *, from_beginning: bool = True, shared: bool = False
) -> AsyncIterator[KafkaChangelog]:
    changelog = KafkaChangelog(
        connection_of(settings),
        topic,
        group_id,
        session_timeout=min(LONGEST_SUCCESSION, settings.kafka.session_timeout_ms / 1000),
        isolation_level=settings.isolation_level,
        shared=shared,
    )
    try:
        await changelog.start(from_beginning=from_beginning)
        yield changelog
    finally:
        with anyio.CancelScope(shield=True):
            await changelog.aclose(CLOSE_SECONDS / 2)
