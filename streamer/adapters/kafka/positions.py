"""Where each partition is read on, by our own account: the client's moves past records that it never handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import IllegalStateError, KafkaError

log = structlog.get_logger(__name__)


class Positions:
    """The next offset per partition, behind what the flow has really been handed; before that, the committed one.

    `generation` counts the changes made to them: what a poll brings from before the last one is not handed over.
    `timeout`: seconds for the broker to say where a log begins, or what is committed.
    """

    def __init__(self, timeout: float) -> None:
        self.generation = 0
        self.deleted_offsets_total = 0
        self.truncations_total = 0
        self._timeout = timeout
        self._next: dict[ClientPartition, int] = {}

    def get(self, tp: ClientPartition) -> int | None:
        return self._next.get(tp)

    def advance(self, tp: ClientPartition, offset: int) -> None:
        self._next[tp] = offset

    def forget(self) -> None:
        """All partitions begin at their committed offsets again."""
        self.generation += 1
        self._next.clear()

    def changed(self) -> None:
        """Partitions have gone to somebody else."""
        self.generation += 1

    async def restart(self, consumer: Any, tp: ClientPartition, offset: int | None) -> None:
        """Read on from there; None: from what is committed, or else from the beginning. Raises KafkaError,
        TimeoutError, IllegalStateError when the partition is not the consumer's any more."""
        start = await self.committed(consumer, tp) if offset is None else offset
        await self._seek(consumer, tp, start)
        self.generation += 1
        self._next.pop(tp, None)
        if offset is not None:
            self._next[tp] = offset

    async def seek_back(self, consumer: Any, tps: Collection[ClientPartition]) -> list[ClientPartition]:
        """To where the flow is, after the client's error. Returns those whose place was not to be found out."""
        lost: list[ClientPartition] = []
        for tp in tps:
            try:
                while True:
                    generation, offset = self.generation, self._next.get(tp)
                    if offset is None:
                        offset = await self.committed(consumer, tp)
                    if generation == self.generation:
                        break
                    # While we asked, this partition was taken up again, or another one was and this one is still where
                    # the client has left it: only asking again tells.
                await self._seek(consumer, tp, offset)
            except IllegalStateError:
                continue  # taken away meanwhile: its next owner starts from the committed offset
            except (KafkaError, TimeoutError) as exc:
                log.warning(
                    "position not found; retrying",
                    partition=f"{tp.topic}/{tp.partition}",
                    reason=repr(exc),
                )
                lost.append(tp)
        return lost

    async def begin(self, consumer: Any, tp: ClientPartition) -> None:
        """A partition that nobody has read yet, perhaps one that was added later: from its first record on."""
        with suppress(KafkaError, TimeoutError):
            await self._seek(consumer, tp, None)

    async def find_the_log(self, consumer: Any, outside: Mapping[ClientPartition, int]) -> dict[ClientPartition, int]:
        """These positions are outside of their logs. Where retention took records, goes on with what is left; returns
        the beginnings of logs that have to be read anew. Both are told and counted."""
        anew: dict[ClientPartition, int] = {}
        with suppress(KafkaError, TimeoutError):
            begins = await asyncio.wait_for(consumer.beginning_offsets(list(outside)), self._timeout)
            for tp, offset in outside.items():
                begin, where = begins[tp], f"{tp.topic}/{tp.partition}"
                if offset < begin:
                    gone = begin - offset
                    self.deleted_offsets_total += gone
                    log.error("records deleted by retention before they were read", partition=where, offsets=gone)
                    self._next[tp] = begin
                else:
                    # Truncated (the client does not look for that, KIP-320), or deleted and created again. What is new
                    # in it may lie anywhere below our position.
                    self.truncations_total += 1
                    log.error("partition ends before our position; reading it from the beginning", partition=where)
                    anew[tp] = begin
        return anew

    async def committed(self, consumer: Any, tp: ClientPartition) -> int | None:
        # `committed()` may answer from a request made before the last transaction ended; this one asks now.
        asking = consumer._coordinator.fetch_committed_offsets([tp])  # noqa: SLF001
        found = (await asyncio.wait_for(asking, self._timeout)).get(tp)
        return found.offset if found is not None and found.offset >= 0 else None

    async def _seek(self, consumer: Any, tp: ClientPartition, offset: int | None) -> None:
        if offset is None:
            await asyncio.wait_for(consumer.seek_to_beginning(tp), self._timeout)
        else:
            consumer.seek(tp, offset)


async def drop_fetched(consumer: Any, tps: Iterable[ClientPartition], timeout: float) -> None:
    """Have the client forget what it holds of these, which it does with a paused partition when it is asked for it."""
    for tp in tps:
        with suppress(KafkaError, IllegalStateError, TimeoutError):
            consumer.pause(tp)
            async with asyncio.timeout(timeout):  # it waits for a rebalance, and that may be for ever
                await consumer.getmany(tp, timeout_ms=0)
        with suppress(IllegalStateError):
            consumer.resume(tp)
