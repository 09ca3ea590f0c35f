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
from aiokafka.errors import InvalidTimestampError, KafkaError

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.publisher import HeldBack, Publisher, RecordBatch, Target
from streamer.adapters.kafka.refusals import is_doubtful, reason_of, refusal_of
from streamer.adapters.kafka.topic_limits import TopicLimits
from streamer.core.events import Message, MessageColumns
from streamer.errors import Refused, TooLarge, Unreachable
from streamer.protocols import Acknowledgement

log = structlog.get_logger(__name__)

DELIVERY_TIMEOUT = 120.0
QUIET = 3.0  # an acknowledgement later than this is worth telling
LONGEST_PAUSE = 5.0
QUIET_DOWN = 1.0
QUIET_DOWN_AFTER_REFUSAL = 20.0  # the brokers are well then, if perhaps slow


@dataclass(slots=True)
class _Bundle:
    """What one `send` brought. `waiting`: positions of messages that are neither delivered nor refused for good."""

    messages: list[Message] | MessageColumns
    since: float
    waiting: list[int]
    batches: list[RecordBatch] = field(default_factory=list)
    singly: bool = False
    refused: dict[int, BaseException] = field(default_factory=dict)

    def settle(self, dirty: set[Target], limits: TopicLimits) -> bool:
        """Note what became of the batches; whether anything will be sent otherwise than before.

        A partition that missed one of them is `dirty`: what followed is sent again even if it arrived, or the older
        message would end up behind the newer one. A message that is refused for what it is gives way to what there is
        instead of it.
        """
        waiting: set[int] = set(self.waiting)
        has_changed = False
        for batch in self.batches:
            error = batch.error
            if error is None and batch.future.done() and batch.target not in dirty:
                waiting.difference_update(batch.positions)
            elif self._teaches(batch, limits):
                has_changed = True
                dirty.add(batch.target)
            elif refusal_of(error) is None or len(batch.positions) > 1 or (is_doubtful(error) and not self.singly):
                has_changed |= refusal_of(error) is not None and not self.singly
                self.singly |= refusal_of(error) is not None
                dirty.add(batch.target)
            else:
                has_changed |= self._replace(batch, error, dirty, waiting)
        self.batches = []
        self.waiting = sorted(waiting)
        return has_changed

    def _teaches(self, batch: RecordBatch, limits: TopicLimits) -> bool:
        return limits.learn(batch.target[0], batch.error, [self.messages[p] for p in batch.positions], batch.size)

    def _replace(self, batch: RecordBatch, error: BaseException | None, dirty: set[Target], waiting: set[int]) -> bool:
        (position,) = batch.positions
        message, kind = self.messages[position], refusal_of(error)
        if error is None or kind is None:
            raise AssertionError("nothing was refused. This is a bug.")
        if message.instead is None:
            self.refused[position] = error
            waiting.discard(position)
            return True
        lesser = message.instead(kind, reason_of(error))
        if lesser is None:
            return False  # it waits; what lies behind it does not have to
        if isinstance(self.messages, MessageColumns):
            self.messages = list(self.messages)
        self.messages[position] = lesser
        if lesser.topic == message.topic:
            dirty.add(batch.target)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatistics:
    unacknowledged: int = field(metadata={"help": "Messages sent and not yet acknowledged by the broker."})
    producers_replaced_total: int = field(
        metadata={"help": "Producers replaced after an error or a missing acknowledgement."}
    )


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, HeldBack | InvalidTimestampError) or refusal_of(error) is not None


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
        self._limits = TopicLimits()
        self._make = partial(
            Publisher,
            connection,
            compression,
            self._limits,
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
        """Enqueue in order. The acknowledgement raises Refused when the broker takes all but some that have nothing to
        be sent instead of them; TooLarge when it finds those too large."""
        leaving = messages if isinstance(messages, MessageColumns) else list(messages)
        bundle = _Bundle(leaving, self._clock(), list(range(len(messages))))
        async with self._lock:
            self._pending.append(bundle)
            try:
                await self._submit(bundle)
            except KafkaError as exc:
                await self._replace(repr(exc))
        return partial(self._acknowledged, bundle)

    async def _submit(self, bundle: _Bundle) -> None:
        if self._limits.has_learned:
            bundle.messages = list(bundle.messages)  # single ones may have to give way
        bundle.batches = await self._publisher.submit(bundle.messages, bundle.waiting, singly=bundle.singly)

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
            if all(refusal_of(error) == "too_large" for error in bundle.refused.values()):
                raise TooLarge(bundle.refused)
            raise Refused(bundle.refused, reason_of(next(iter(bundle.refused.values()))))

    async def _delivered(self, bundle: _Bundle) -> str | None:
        """None when all of it is; else why not."""
        futures = [batch.future for batch in bundle.batches]
        if futures:
            _, open_ones = await asyncio.wait(futures, timeout=self._give_up_after or self._delivery_timeout)
            if open_ones:
                return f"no acknowledgement within {self._give_up_after or self._delivery_timeout:g} s"
        if not any(batch.error for batch in bundle.batches):
            return None
        errors = [batch.error for bundle in self._pending for batch in bundle.batches if batch.error]
        return repr(next((error for error in errors if not isinstance(error, HeldBack)), errors[0]))

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
            await self._quiet_down()
            await self._publisher.abandon()
            dirty: set[Target] = set()
            self._limits.timestamps.begin()
            changed = sum(bundle.settle(dirty, self._limits) for bundle in self._pending)
            if not changed:
                await asyncio.sleep(min(LONGEST_PAUSE, 0.25 * (2**self._failures - 1)))
                self._failures = min(self._failures + 1, 10)
            self._publisher = self._make()
            try:
                await self._publisher.start()
                for bundle in self._pending:
                    await self._submit(bundle)
                return
            except (KafkaError, Unreachable) as exc:
                reason = str(exc) if isinstance(exc, Unreachable) else repr(exc)

    async def _quiet_down(self) -> None:
        """What is on its way to other partitions may arrive: cut off, it would be there twice."""
        batches = [batch for bundle in self._pending for batch in bundle.batches]
        futures = [batch.future for batch in batches if not batch.future.done()]
        if futures:
            was_refusal = {_is_refusal(batch.error) for batch in batches if batch.error} == {True}
            await asyncio.wait(futures, timeout=QUIET_DOWN_AFTER_REFUSAL if was_refusal else QUIET_DOWN)

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
