"""A consumer of the vectors who is there all along, and remembers what it was shown in which order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import anyio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.faults.checker import Sight, sight_of


class Reader:
    """`seen` by partition, while the `async with` runs; brokers may come and go meanwhile."""

    def __init__(self, servers: str, topic: str, partitions: int, isolation_level: str) -> None:
        self.seen: dict[int, list[Sight]] = defaultdict(list)
        self._topic = topic
        # Not asked for: the broker may not know all of a topic that was created just now.
        self._next = {TopicPartition(topic, partition): 0 for partition in range(partitions)}
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, auto_offset_reset="none", isolation_level=isolation_level, fetch_max_wait_ms=100
        )
        self._stopping = False
        self._news = asyncio.Event()

    @property
    def count(self) -> int:
        return sum(map(len, self.seen.values()))

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign(list(self._next))
        self._seek()
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self._task])
            stopping = asyncio.ensure_future(self._consumer.stop())
            # Its last fetch may have failed, or not come back: no news, now that all has been seen.
            await asyncio.wait([stopping], timeout=10)
            if not stopping.cancel() and not stopping.cancelled():
                stopping.exception()

    async def has_seen(self, count: int, timeout: float = 120.0) -> None:
        """Wait until it was shown so many records."""
        with anyio.move_on_after(timeout):
            while self.count < count:
                await self._changed()
            return
        raise AssertionError(f"{self.count} vectors seen and not {count} within {timeout:g} s")

    async def has_reached(self, last: Mapping[int, int], timeout: float = 30.0) -> None:
        """Wait until it was shown these offsets, or the time is up: what is missing then is for the judge."""
        with anyio.move_on_after(timeout):
            while any(self._next[TopicPartition(self._topic, p)] <= offset for p, offset in last.items()):
                await self._changed()

    async def _changed(self) -> None:
        self._news.clear()
        news = asyncio.ensure_future(self._news.wait())
        await asyncio.wait([news, self._task], return_when=asyncio.FIRST_COMPLETED)
        news.cancel()
        if self._task.done():
            self._task.result()
            raise AssertionError("the reader has ended")

    async def _read(self) -> None:
        while not self._stopping:
            try:
                batches = await self._consumer.getmany(timeout_ms=100)
            except KafkaError:
                self._seek()  # the client may have moved on with what it did not hand over
                continue
            self._note(batches)

    def _note(self, batches: Mapping[TopicPartition, Sequence[object]]) -> None:
        for tp, records in batches.items():
            sights = [sight_of(record) for record in records]
            self.seen[tp.partition] += sights
            if sights:
                self._next[tp] = sights[-1][0] + 1
                self._news.set()

    def _seek(self) -> None:
        for tp, offset in self._next.items():
            self._consumer.seek(tp, offset)
