"""Publishes in order and keeps every message until it is acknowledged: producers may die, the flow does not notice.

A failed batch ends its producer: the client takes the sequence numbers of a batch before it sends it and never begins a
new epoch (KIP-360), so that the broker would refuse all that follows (https://github.com/aio-libs/aiokafka/issues/1017).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.publisher import Publisher, RecordBatch, Target
from streamer.core.events import Message
from streamer.errors import TooLarge, Unreachable
from streamer.protocols import Acknowledgement

log = structlog.get_logger(__name__)

DELIVERY_TIMEOUT = 120.0
QUIET = 5.0  # an acknowledgement later than this is worth telling
LONGEST_PAUSE = 5.0


@dataclass(slots=True)
class _Bundle:
    """What one `send` brought. `waiting`: positions of messages that are neither delivered nor refused."""

    messages: Sequence[Message]
    since: float
    waiting: list[int]
    batches: list[RecordBatch] = field(default_factory=list)
    singly: bool = False
    refused: list[int] = field(default_factory=list)

    def settle(self, dirty: set[Target]) -> None:
        """Note what became of the batches. A partition that missed one of them is `dirty`: what followed is sent again
        even if it arrived, or the older message would end up behind the newer one."""
        waiting: set[int] = set(self.waiting)
        for batch in self.batches:
            error = batch.error
            if isinstance(error, MessageSizeTooLargeError) and len(batch.positions) == 1:
                self.refused += batch.positions
            elif error is not None or not batch.future.done() or batch.target in dirty:
                self.singly |= isinstance(error, MessageSizeTooLargeError)
                dirty.add(batch.target)
                continue
            waiting.difference_update(batch.positions)
        self.batches = []
        self.waiting = sorted(waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatistics:
    unacknowledged: int = field(metadata={"help": "Messages sent and not yet acknowledged by the broker."})
    producers_replaced_total: int = field(
        metadata={"help": "Producers replaced after an error or a missing acknowledgement."}
    )


class KafkaSink:
    """A Sink. `delivery_timeout`: seconds without an acknowledgement after which the producer is replaced.

    While brokers are away it waits, and so does its caller; with `give_up_after` it raises Unreachable after that many
    seconds instead.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        idempotent: bool = True,
        compression: str = "none",
        delivery_timeout: float = DELIVERY_TIMEOUT,
        give_up_after: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = partial(
            Publisher,
            connection,
            compression,
            give_up_after=give_up_after or delivery_timeout,
            enable_idempotence=idempotent,
        )
        self._delivery_timeout = delivery_timeout
        self._give_up_after = give_up_after
        self._clock = clock
        self._publisher = self._make()
        self._lock = asyncio.Lock()  # held by whoever gives messages to the producer
        self._pending: deque[_Bundle] = deque()
        self._generation = 0
        self._failures = 0  # in a row
        self._trouble: str | None = None

    async def start(self) -> None:
        """Raises Unreachable when no broker answers."""
        await self._publisher.start()

    async def aclose(self, timeout: float = 5.0) -> None:
        await self._publisher.close(timeout)

    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        """Enqueue in order. The acknowledgement raises TooLarge when the broker takes all but some that it finds too
        large."""
        bundle = _Bundle(messages, self._clock(), list(range(len(messages))))
        async with self._lock:
            self._pending.append(bundle)
            try:
                bundle.batches = await self._publisher.submit(messages, bundle.waiting, singly=False)
            except KafkaError as exc:
                await self._replace(repr(exc))
        return partial(self._acknowledged, bundle)

    async def _acknowledged(self, bundle: _Bundle) -> None:
        while True:
            generation = self._generation
            problem = await self._delivered(bundle)
            if problem is None:
                break
            async with self._lock:
                if generation == self._generation:  # else somebody else's error has done it already
                    await self._replace(problem)
        self._pending.remove(bundle)
        self._failures, self._trouble = 0, None
        if bundle.refused:
            raise TooLarge(bundle.refused)

    async def _delivered(self, bundle: _Bundle) -> str | None:
        """None when all of it is; else why not."""
        futures = [batch.future for batch in bundle.batches]
        if futures:
            _, open_ones = await asyncio.wait(futures, timeout=self._give_up_after or self._delivery_timeout)
            if open_ones:
                return f"no acknowledgement within {self._give_up_after or self._delivery_timeout:g} s"
        return next((repr(batch.error) for batch in bundle.batches if batch.error), None)

    async def _replace(self, reason: str) -> None:
        """Another producer gets all that is not acknowledged, in order. The lock is held."""
        while True:
            oldest = min(bundle.since for bundle in self._pending)
            if self._give_up_after is not None and self._clock() - oldest >= self._give_up_after:
                raise Unreachable(f"publishing failed: {reason}")
            # Each attempt; the outage as a whole is told from `state`.
            log.debug("replacing the producer", reason=reason, unacknowledged=len(self._pending))
            self._trouble = reason
            self._generation += 1
            await self._publisher.abandon()
            dirty: set[Target] = set()
            for bundle in self._pending:
                bundle.settle(dirty)
            await asyncio.sleep(min(LONGEST_PAUSE, 0.25 * (2**self._failures - 1)))
            self._failures = min(self._failures + 1, 10)
            self._publisher = self._make()
            try:
                await self._publisher.start()
                for bundle in self._pending:
                    bundle.batches = await self._publisher.submit(bundle.messages, bundle.waiting, singly=bundle.singly)
                return
            except (KafkaError, Unreachable) as exc:
                reason = str(exc) if isinstance(exc, Unreachable) else repr(exc)

    def state(self) -> str | None:
        """Why messages are not getting through, in words for a person; None when they are."""
        if self._trouble is not None:
            return f"publishing waits: {self._trouble}"
        waited = self._clock() - self._pending[0].since if self._pending else 0.0
        return f"publishing waits: no acknowledgement from Kafka for {waited:.0f} s" if waited > QUIET else None

    def statistics(self) -> SinkStatistics:
        return SinkStatistics(
            unacknowledged=sum(len(bundle.messages) for bundle in self._pending),
            producers_replaced_total=self._generation,
        )
