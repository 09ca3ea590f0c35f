"""Exactly once, for consumers that read committed: outputs and offsets of an input partition in one transaction.

One transactional producer per input partition, its id made of group, topic and partition. The group coordinator does
not check who commits offsets in a transaction of this protocol version (before KIP-447); the producer's epoch does.
Hence the order in which a partition is taken up: start its producer, which ends whatever the one before it left open,
then read the committed offset, then seek.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import structlog
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.producer.transaction_manager import TransactionState

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.publisher import Publisher, RecordBatch
from streamer.adapters.kafka.refusals import is_doubtful, reason_of, refusal_of
from streamer.adapters.kafka.sink import SinkStatistics
from streamer.adapters.kafka.topic_limits import TopicLimits
from streamer.core.events import Message, MessageColumns, TopicPartition
from streamer.errors import ConfigurationError, PartitionLost, Unreachable
from streamer.protocols import Acknowledgement

log = structlog.get_logger(__name__)

TRANSACTION_TIMEOUT = 60.0  # the broker aborts a transaction that is open for longer
PAUSE = 1.0
STEP_TIMEOUT = 30.0  # of each step on the way to a commit


class _PartitionProducer:
    """One input partition's producer and its open transaction. After the first error it is good for nothing."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.failure: str | None = None
        self.lock = asyncio.Lock()
        self._open = False
        self._batches: list[RecordBatch] = []
        self._next_offset = 0

    async def send(
        self, messages: list[Message] | MessageColumns, positions: Sequence[int], *, singly: bool
    ) -> Sequence[RecordBatch]:
        async with self.lock, asyncio.timeout(STEP_TIMEOUT):
            if self.failure is not None:
                raise PartitionLost(self.failure)
            with self._over_before_its_time():
                return await self._send(messages, positions, singly)

    async def _send(
        self, messages: list[Message] | MessageColumns, positions: Sequence[int], singly: bool
    ) -> Sequence[RecordBatch]:
        if not self._open:
            await self.publisher.producer.begin_transaction()
            self._open = True
        batches = await self.publisher.submit(messages, positions, singly=singly)
        self._batches += batches
        last = messages[positions[-1]].origin
        if last is None:
            raise AssertionError("a message without an origin has no transaction. This is a bug.")
        self._next_offset = last.offset + 1
        return batches

    async def commit(self, tp: TopicPartition, group_id: str) -> None:
        """All that was sent so far, and the offset behind it, become visible together."""
        async with self.lock:  # nothing may enter the transaction between the offset and its end
            if self.failure is not None:
                raise PartitionLost(self.failure)
            if not self._open:
                return
            producer = self.publisher.producer
            # Unlike Java's, the client commits a transaction although a send in it failed: look at each.
            await delivered(self._batches)
            with self._over_before_its_time():
                async with asyncio.timeout(STEP_TIMEOUT):
                    await producer.send_offsets_to_transaction({ClientPartition(*tp): self._next_offset}, group_id)
                    await producer.commit_transaction()
            self._open, self._batches = False, []

    @contextmanager
    def _over_before_its_time(self) -> Iterator[None]:
        """If the producer was fenced between two steps, aiokafka reports only an illegal state."""
        try:
            yield
        except (IllegalOperation, AssertionError) as exc:
            state = self.publisher.producer._txn_manager.state  # noqa: SLF001
            if state not in (TransactionState.ABORTABLE_ERROR, TransactionState.FATAL_ERROR):
                raise
            raise KafkaError(f"the transaction is over: {exc}") from exc


class KafkaTransactions:
    """A Sink whose messages say which input record they come from. A partition in `broken` has to be taken up again."""

    def __init__(self, connection: KafkaConnection, group_id: str, *, compression: str = "none") -> None:
        self._group_id = group_id
        self._limits = TopicLimits()
        self._singly_up_to: dict[TopicPartition, int] = {}  # something there was refused, and it is not known what
        self._make = partial(
            Publisher,
            connection,
            compression,
            self._limits,
            give_up_after=STEP_TIMEOUT,
            transaction_timeout_ms=int(TRANSACTION_TIMEOUT * 1000),
        )
        self._producers: dict[TopicPartition, _PartitionProducer] = {}
        self._failures = 0
        self.broken: dict[TopicPartition, str] = {}
        self.changed = asyncio.Event()

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        return frozenset(self._producers)

    async def check(self) -> None:
        """Raises ConfigurationError where the broker has no transactions."""
        trial = self._make(transactional_id=f"{self._group_id}-check")
        try:
            await trial.start()
        except Unreachable as exc:
            if isinstance(exc.__cause__, KafkaError | TimeoutError) and await self._answers():
                raise ConfigurationError(
                    f"delivery.guarantee = 'exactly-once' needs a broker with transactions, such as Apache Kafka: {exc}"
                ) from exc
            raise
        await trial.close(STEP_TIMEOUT)

    async def _answers(self) -> bool:
        plain = self._make.func(*self._make.args, give_up_after=STEP_TIMEOUT)
        try:
            await plain.start()
        except Unreachable:
            return False
        await plain.close(STEP_TIMEOUT)
        return True

    async def begin(self, tp: TopicPartition) -> None:
        """A new producer for this partition; its predecessor's open transaction is aborted. Raises Unreachable."""
        await self.end([tp])
        publisher = self._make(transactional_id=f"{self._group_id}-{tp.topic}-{tp.partition}")
        await publisher.start()
        self._producers[tp] = _PartitionProducer(publisher)

    async def end(self, tps: Collection[TopicPartition]) -> None:
        """Give the producers up; what is not committed will be aborted by the next owner, or by the broker in time."""
        producers = [self._producers.pop(tp) for tp in tps if tp in self._producers]
        for tp in tps:
            self.broken.pop(tp, None)
        for producer in producers:
            producer.failure = producer.failure or "taken away"
        await asyncio.gather(*(producer.publisher.abandon() for producer in producers))

    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        """Into the open transactions. The acknowledgement raises PartitionLost, naming partitions, when their messages
        will never be committed."""
        leaving = messages if isinstance(messages, MessageColumns) and not self._limits.has_learned else list(messages)
        origins = leaving.origins if isinstance(leaving, MessageColumns) else [message.origin for message in leaving]
        # Before the first await: a producer that is replaced later must not get what was meant for this one.
        shares: dict[TopicPartition, tuple[_PartitionProducer | None, list[int]]] = {}
        for position, origin in enumerate(origins):
            tp = origin.tp if origin else TopicPartition("", -1)
            shares.setdefault(tp, (self._producers.get(tp), []))[1].append(position)
        lost: set[TopicPartition] = set()
        underway: list[tuple[TopicPartition, _PartitionProducer, Sequence[RecordBatch]]] = []
        for tp, (producer, positions) in shares.items():
            if producer is None:
                lost.add(tp)
                continue
            try:
                singly = self._is_suspect(tp, leaving[positions[0]])
                underway.append((tp, producer, await producer.send(leaving, positions, singly=singly)))
            except (KafkaError, TimeoutError, PartitionLost) as exc:
                await self._fail(tp, producer, exc)
                lost.add(tp)
        return partial(self._acknowledged, leaving, underway, lost)

    def _is_suspect(self, tp: TopicPartition, first: Message) -> bool:
        until = self._singly_up_to.get(tp)
        if until is None or (first.origin and first.origin.offset <= until):
            return until is not None
        del self._singly_up_to[tp]
        return False

    def _judge(self, tp: TopicPartition, messages: Sequence[Message], batches: Iterable[RecordBatch]) -> bool:
        """Find out what the broker refused, so that the next transaction goes without it; whether it will go
        otherwise than this one."""
        has_changed = False
        for batch in batches:
            sent = [messages[position] for position in batch.positions]
            kind = refusal_of(batch.error)
            if self._limits.learn(batch.target[0], batch.error, sent, batch.size):
                has_changed = True
            elif kind is not None and sent[-1].origin is not None:
                until = self._singly_up_to.get(tp)
                if len(sent) == 1 and sent[0].instead and (until is not None or not is_doubtful(batch.error)):
                    has_changed |= sent[0].instead(kind, reason_of(batch.error)) is not None
                elif until is None or until < sent[-1].origin.offset:
                    self._singly_up_to[tp] = sent[-1].origin.offset
                    has_changed = True
        return has_changed

    async def _acknowledged(
        self,
        messages: Sequence[Message],
        underway: Iterable[tuple[TopicPartition, _PartitionProducer, Sequence[RecordBatch]]],
        lost: set[TopicPartition],
    ) -> None:
        self._limits.timestamps.begin()
        for tp, producer, batches in underway:
            try:
                await delivered(batches)
            except (KafkaError, TimeoutError, asyncio.CancelledError) as exc:
                if isinstance(exc, asyncio.CancelledError) and not any(batch.future.cancelled() for batch in batches):
                    raise
                await self._fail(tp, producer, exc, will_change=self._judge(tp, messages, batches))
                lost.add(tp)
        if lost:
            raise PartitionLost("a transaction failed; its partition is read again", lost)

    async def commit(self, tps: Iterable[TopicPartition]) -> None:
        """End the open transactions of these partitions. Raises PartitionLost for those that failed or are not ours."""
        chosen = list(tps)
        results = await asyncio.gather(*map(self._commit, chosen))
        lost = {tp for tp, done in zip(chosen, results, strict=True) if not done}
        if lost:
            raise PartitionLost("a transaction was not committed; its partition is read again", lost)

    async def _commit(self, tp: TopicPartition) -> bool:
        producer = self._producers.get(tp)
        if producer is None:
            return False
        try:
            await producer.commit(tp, self._group_id)
        except (KafkaError, TimeoutError, PartitionLost) as exc:
            # Whether it was committed is not known, and an end sent again could hit the next transaction (KIP-890). The
            # next producer waits for the answer before offsets are read.
            await self._fail(tp, producer, exc)
            return False
        return True

    async def _fail(
        self, tp: TopicPartition, producer: _PartitionProducer, error: BaseException, *, will_change: bool = False
    ) -> None:
        if producer.failure is not None:
            if will_change and self._producers.get(tp) is producer:
                self.changed.set()
            return
        producer.failure = repr(error)
        self._failures += 1
        log.warning("transaction failed; replaying its partition", partition=str(tp), reason=producer.failure)
        await producer.publisher.abandon()  # at once: a late retry of its last request would end the next transaction
        if self._producers.get(tp) is producer:
            self.broken[tp] = producer.failure
            # Not always at once: what failed for a lasting reason would be tried without a breath.
            asyncio.get_running_loop().call_later(0.0 if will_change else PAUSE, self.changed.set)

    def state(self) -> str | None:
        whys = "; ".join(f"{tp}: {why}" for tp, why in sorted(self.broken.items()))
        return f"transactions failed, reading again: {whys}" if whys else None

    def statistics(self) -> SinkStatistics:
        return SinkStatistics(unacknowledged=0, producers_replaced_total=self._failures)


async def delivered(batches: Iterable[RecordBatch]) -> None:
    """Wait for all; raises the first error."""
    futures = [batch.future for batch in batches]
    if futures:
        _, late = await asyncio.wait(futures, timeout=STEP_TIMEOUT)
        if late:
            raise TimeoutError(f"no acknowledgement within {STEP_TIMEOUT:g} s")
    for future in futures:
        future.result()
