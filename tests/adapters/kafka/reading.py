"""The simplest flow in front of a source, and what the tests of reading do to its topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
from aiokafka.admin import AIOKafkaAdminClient

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.diagnosis import ConsumerTimeouts
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.events import Record, TopicPartition
from tests.support.mock_cluster import MockCluster
from tests.support.topics import produce

SHORT = ConsumerTimeouts(
    interval=0.1, quiet=0.3, stuck=1.0, unreachable=2.0, request=2.0, step=2.0, pause=0.1, quarantine=1.0
)


class Reader:
    """The simplest flow: what it is handed is done. `values` in order of arrival."""

    def __init__(self, source: KafkaSource) -> None:
        self.source = source
        self.owned: set[TopicPartition] = set()
        self.records: list[Record] = []
        self.events: list[str] = []

    @property
    def values(self) -> list[int]:
        return [int(record.value or b"") for record in self.records]

    async def on_assigned(self, tps: Collection[TopicPartition]) -> None:
        self.events.append("assigned")
        self.owned |= set(tps)

    async def on_revoked(self, tps: Collection[TopicPartition]) -> None:
        self.events.append("revoked")
        self.owned -= set(tps)

    async def on_lost(self, tps: Collection[TopicPartition]) -> None:
        self.events.append("lost")
        self.owned -= set(tps)

    async def read(self, done: Callable[[], bool], timeout: float = 40.0) -> None:
        with anyio.fail_after(timeout):
            while not done():
                if self.owned:
                    self.records += await self.source.poll(sorted(self.owned), 0.05)
                else:
                    await anyio.sleep(0.01)


@asynccontextmanager
async def reading(servers: str, topic: str, *, leave_within: float = 5.0, **options: Any) -> AsyncIterator[Reader]:
    connection = KafkaConnection(bootstrap_servers=servers, metadata_max_age=0.5, fetch_max_wait=0.05)
    given: dict[str, Any] = {"session_timeout": 6.0, "timeouts": SHORT, **options}
    source = KafkaSource(connection, [topic], f"group-{topic}", **given)
    reader = Reader(source)
    try:
        await source.start(reader)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.watch)
            yield reader
            tasks.cancel_scope.cancel()
    finally:
        await source.aclose(leave_within)


def in_a_mock_group(cluster: MockCluster, topic: str, **options: Any) -> AbstractAsyncContextManager[Reader]:
    """After an error the mock's group waits for its own member to come back; to leave it then takes a session."""
    return reading(cluster.bootstrap_servers, topic, leave_within=0.2, session_timeout=2.0, **options)


async def fill(servers: str, topic: str, start: int, count: int, **options: Any) -> None:
    await produce(servers, topic, [(None, str(n).encode()) for n in range(start, start + count)], **options)


@asynccontextmanager
async def administration(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
