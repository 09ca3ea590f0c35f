"""One member of a consumer group: polls bytes, keeps its own position, tells the flow about rebalances."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as ClientPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from streamer.adapters.kafka.connection import Connection, bounded
from streamer.adapters.kafka.diagnosis import Diagnosis, Health, Patience, cause_of_death, leave
from streamer.adapters.kafka.records import record_of
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.core.events import Record, TopicPartition
from streamer.errors import PartitionLost, RetriableError, Unreachable
from streamer.protocols import Rebalance

log = structlog.get_logger("streamer.kafka")

REBALANCE_TIMEOUT = 30.0  # the drain of a rebalance must fit into it
REQUEST_TIMEOUT = 10.0
# The client's own watch over poll intervals would make a worker that waits for its provider leave the group.
MAX_POLL_INTERVAL_MS = 24 * 3600 * 1000
TRIES = 3  # of reading a partition by itself, before it is left alone for a while
LEFT_ALONE = 60.0
PAUSE = 2.0  # between attempts to rejoin or to take up a partition again


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatistics:
    """`deleted_offsets_total`: offsets that retention took before they were read. `truncations_total`: logs that ended
    before our position. `unreadable_partitions`: left alone now, because reading them fails."""

    poll_failures_total: int
    consumers_replaced_total: int
    partitions_restarted_total: int
    deleted_offsets_total: int
    truncations_total: int
    unreadable_partitions: int


class KafkaSource:
    """A Source. Offsets are committed only by `commit`; records come as bytes, so that nothing is lost to decoding.

    `watch` has to run beside it: it replaces a consumer that is stuck or dead. `session_timeout`: seconds after which
    the group gives up a member that died without a word. `instance_id`: static membership. `transactions`: commit
    through them.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Sequence[str] | re.Pattern[str],
        group_id: str,
        *,
        session_timeout: float = 45.0,
        instance_id: str | None = None,
        isolation_level: str = "read_uncommitted",
        transactions: KafkaTransactions | None = None,
        max_poll_records: int = 1000,
        max_partition_fetch_bytes: int = 2 * 1024 * 1024,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._topics = topics
        self._max_poll_records = max_poll_records
        self._transactions = transactions
        self._patience = patience or Patience()
        self._clock = clock
        self._options = {
            **connection.consumer_options(),
            "group_id": group_id,
            "group_instance_id": instance_id,
            "isolation_level": isolation_level,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # we decide, and count what is gone
            # Exactly one: with two the client joins twice and waits for itself.
            "partition_assignment_strategy": [StickyPartitionAssignor],
            "session_timeout_ms": int(session_timeout * 1000),
            "heartbeat_interval_ms": min(3000, int(session_timeout * 1000 / 3)),
            "rebalance_timeout_ms": int(REBALANCE_TIMEOUT * 1000),
            "max_poll_interval_ms": MAX_POLL_INTERVAL_MS,
            "max_partition_fetch_bytes": max_partition_fetch_bytes,
        }
        self._consumer: Any = None
        self._rebalance: Rebalance
        self._listener_error: Exception | None = None
        self._next: dict[ClientPartition, int] = {}  # our position: what the flow has really been handed
        self._health = Health(self._patience, clock)
        self._generation = 0  # of positions: what a poll brings from before the last change is not handed over
        self._given_up = asyncio.Event()  # the consumer, by us
        self._assigning = asyncio.Lock()  # held while partitions change hands; never by a poll, which waits for that
        self._restarts: dict[ClientPartition, int | None] = {}  # to take up again, from there or the committed offset
        self._wake = asyncio.Event()
        self._suspects: set[ClientPartition] = set()  # read by themselves, to find out whose error it was
        self._tries: Counter[ClientPartition] = Counter()
        self._unreadable: dict[ClientPartition, tuple[float, str]] = {}  # until when, and why
        self._turn = 0
        self._counts: Counter[str] = Counter()

    # ------------------------------------------------------------------------------------------------ membership

    async def start(self, rebalance: Rebalance) -> None:
        """Join the group. Raises Unreachable when no broker answers."""
        self._rebalance = rebalance
        await self._join()

    async def _join(self) -> None:
        consumer = self._consumer = AIOKafkaConsumer(**self._options)
        self._given_up = asyncio.Event()
        listener = _Listener(self, consumer)
        if isinstance(self._topics, re.Pattern):
            consumer.subscribe(pattern=self._topics.pattern, listener=listener)
        else:
            consumer.subscribe(topics=list(self._topics), listener=listener)
        try:
            # The others may take a whole rebalance to let it in.
            await self._connection.reach(consumer.start(), REBALANCE_TIMEOUT)
        except BaseException:
            await leave(consumer, REQUEST_TIMEOUT)  # a failed start leaves its connections and tasks behind
            raise

    async def aclose(self, timeout: float = 5.0) -> None:
        """Leave the group; bounded, since the client may be stuck in a join."""
        if self._transactions is not None:
            await self._transactions.end(self._transactions.partitions)
        if self._consumer is not None:
            await leave(self._consumer, timeout)

    async def assigned(self, consumer: Any, tps: Collection[ClientPartition]) -> None:
        if consumer is not self._consumer:
            return  # one that we have given up has not noticed yet
        async with self._assigning:
            self._generation += 1
            self._next.clear()
            self._restarts.clear()
            self._suspects.clear()
            self._unreadable.clear()
            self._health = Health(self._patience, self._clock)
            if self._transactions is None:
                await self._rebalance.on_assigned([TopicPartition(*tp) for tp in tps])
                return
            await self._rebalance.on_assigned([])
        # Each needs a producer of its own, started before its offset is read: `watch` does it.
        self._restarts = dict.fromkeys(tps)
        self._wake.set()

    async def revoked(self, consumer: Any, tps: Collection[ClientPartition]) -> None:
        if consumer is not self._consumer:
            return
        async with self._assigning:
            ours = [TopicPartition(*tp) for tp in tps]
            await self._rebalance.on_revoked(ours)
            self._generation += 1
            if self._transactions is not None:
                await self._transactions.end(ours)

    def failed(self, error: Exception) -> None:
        """A listener raised: the client only logs it, the next poll raises it."""
        self._listener_error = error

    # ------------------------------------------------------------------------------------------------ records

    async def poll(self, tps: Collection[TopicPartition], timeout: float) -> Sequence[Record]:
        """Records of these partitions, first served in turn. After any error of the client our own position is sought
        again, because it may have moved past records that it never handed over."""
        self._raise_listener_error()
        consumer, generation, given_up = self._consumer, self._generation, self._given_up
        wanted = self._choose(tps)
        if not wanted or given_up.is_set():
            await asyncio.sleep(timeout)
            return []
        self._health.asked(wanted)
        getting = asyncio.ensure_future(
            consumer.getmany(*wanted, timeout_ms=max(1, int(timeout * 1000)), max_records=self._max_poll_records)
        )
        leaving = asyncio.ensure_future(given_up.wait())
        try:
            # Its result is dropped only together with its consumer: it has moved the consumer's position.
            await asyncio.wait([getting, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not getting.done():
                getting.cancel()
        if not getting.done():
            return []  # given up
        if generation != self._generation:
            if not getting.cancelled() and getting.exception() is None and getting.result():
                await self._seek_back(consumer)
            return []
        # The client's own task may have been cancelled, and its error is then handed on.
        error = KafkaError("cancelled") if getting.cancelled() else getting.exception()
        if error is not None:
            await self._survive(consumer, wanted, error, timeout)
            return []
        records = []
        for tp, batch in getting.result().items():
            if batch:
                records += [record_of(r) for r in batch]
                self._next[tp] = batch[-1].offset + 1
                self._tries.pop(tp, None)
        self._health.handed_over(getting.result())
        self._suspects.difference_update(wanted)
        return records

    def _choose(self, tps: Collection[TopicPartition]) -> list[ClientPartition]:
        now = self._clock()
        for tp in [tp for tp, (until, _) in self._unreadable.items() if until <= now]:
            del self._unreadable[tp]
            self._suspects.add(tp)
        wanted = [
            tp
            for tp in sorted(ClientPartition(*tp) for tp in tps)
            if tp not in self._restarts and tp not in self._unreadable
        ]
        if not wanted:
            return []
        self._turn += 1
        alone = [tp for tp in wanted if tp in self._suspects]
        if alone:
            return [alone[self._turn % len(alone)]]
        turn = self._turn % len(wanted)
        return wanted[turn:] + wanted[:turn]

    async def _survive(
        self, consumer: Any, wanted: Sequence[ClientPartition], error: BaseException, timeout: float
    ) -> None:
        if isinstance(error, NoOffsetForPartitionError):
            # A partition nobody has read yet, perhaps one that was added later: from its first record on.
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(consumer.seek_to_beginning(error.args[0]), REQUEST_TIMEOUT)
            return
        self._counts["poll_failures"] += 1
        log.warning("poll failed; reading again from the last record handed over", reason=repr(error))
        if isinstance(error, OffsetOutOfRangeError):
            await self._find_the_log(consumer, error.args[0])
        elif cause_of_death(consumer) is not None:
            self._wake.set()
        elif len(wanted) > 1:
            self._suspects.update(wanted)
        else:
            self._leave_alone(wanted[0], error)
        await self._seek_back(consumer)
        await asyncio.sleep(timeout)

    def _leave_alone(self, tp: ClientPartition, error: BaseException) -> None:
        """Others flow on. Nothing is skipped: a damaged batch does not say where the next one begins."""
        self._tries[tp] += 1
        if self._tries[tp] >= TRIES:
            where = f"{tp.topic}/{tp.partition}"
            log.error("partition cannot be read", partition=where, offset=self._next.get(tp), reason=repr(error))
            self._unreadable[tp] = (self._clock() + LEFT_ALONE, f"{where} cannot be read: {error}")

    async def _find_the_log(self, consumer: Any, offsets: Mapping[ClientPartition, int]) -> None:
        """Our position is outside of the log. Read on from what is left of it, and say so."""
        with suppress(KafkaError, TimeoutError):
            begins = await asyncio.wait_for(consumer.beginning_offsets(list(offsets)), REQUEST_TIMEOUT)
            for tp, offset in offsets.items():
                begin = begins[tp]
                where = f"{tp.topic}/{tp.partition}"
                if offset < begin:
                    self._counts["deleted_offsets"] += begin - offset
                    log.error(
                        "records deleted by retention before they were read", partition=where, offsets=begin - offset
                    )
                    self._next[tp] = begin
                else:
                    # Truncated, or deleted and created again. What is new in it may lie anywhere below our position.
                    self._counts["truncations"] += 1
                    log.error("the log ends before our position; reading it from its beginning", partition=where)
                    self._restarts[tp] = begin
                    self._wake.set()

    async def _seek_back(self, consumer: Any) -> None:
        generation = self._generation
        for tp in consumer.assignment() - self._restarts.keys():
            try:
                offset = self._next.get(tp)
                if offset is None:
                    offset = await self._committed(consumer, tp)
                if generation != self._generation:
                    return  # while we asked, somebody else moved it to where it belongs
                await self._seek(consumer, tp, offset)
            except IllegalStateError:
                continue  # taken away meanwhile: its next owner starts from the committed offset
            except (KafkaError, TimeoutError) as exc:
                log.warning("position not found", partition=f"{tp.topic}/{tp.partition}", reason=repr(exc))
                self._restarts.setdefault(tp, None)
                self._wake.set()

    async def _committed(self, consumer: Any, tp: ClientPartition) -> int | None:
        # `committed()` may answer from a request made before the last transaction ended; this one asks now.
        asking = consumer._coordinator.fetch_committed_offsets([tp])  # noqa: SLF001
        found = (await asyncio.wait_for(asking, REQUEST_TIMEOUT)).get(tp)
        return found.offset if found is not None and found.offset >= 0 else None

    async def _seek(self, consumer: Any, tp: ClientPartition, offset: int | None) -> None:
        if offset is None:
            await asyncio.wait_for(consumer.seek_to_beginning(tp), REQUEST_TIMEOUT)
        else:
            consumer.seek(tp, offset)

    # ------------------------------------------------------------------------------------------------ offsets

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Bounded, because the client repeats retriable errors for ever."""
        if self._transactions is not None:
            await self._transactions.commit(offsets)
            return
        owned = self._consumer.assignment()
        mine = {ClientPartition(*tp): offset for tp, offset in offsets.items() if tp in owned}
        if len(mine) < len(offsets):
            raise PartitionLost("partitions were taken away before their offsets were committed")
        try:
            await bounded(self._consumer.commit(mine), REQUEST_TIMEOUT)
        except (CommitFailedError, IllegalStateError) as exc:
            raise PartitionLost(f"the group has moved on: {exc}") from exc
        except TimeoutError as exc:
            raise RetriableError(f"no answer to the commit within {REQUEST_TIMEOUT:g} s") from exc
        except KafkaError as exc:
            raise RetriableError(f"commit failed: {exc!r}") from exc

    # ------------------------------------------------------------------------------------------------ health

    async def watch(self) -> NoReturn:
        """Runs beside the flow for as long as it does. Raises Unreachable when an input topic has been deleted."""
        while True:
            broken = self._transactions.news.wait() if self._transactions else asyncio.Event().wait()
            waits = [asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(broken)]
            try:
                await asyncio.wait(waits, timeout=self._patience.interval, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            self._wake.clear()
            self._raise_listener_error()
            if self._transactions is not None:
                self._transactions.news.clear()
                for tp in self._transactions.broken:
                    self._restarts.setdefault(ClientPartition(*tp), None)
            for tp in list(self._restarts):
                await self._restart(tp)
            topics = () if isinstance(self._topics, re.Pattern) else self._topics
            if await self._health.check(self._consumer, topics) is Diagnosis.SICK:
                await self._replace_consumer()

    def _raise_listener_error(self) -> None:
        if self._listener_error:
            error, self._listener_error = self._listener_error, None
            raise error

    async def _restart(self, tp: ClientPartition) -> None:
        """Take a partition up again where it was committed (or where the log begins): its work in flight is void."""
        async with self._assigning:
            consumer = self._consumer
            if tp not in self._restarts or tp not in consumer.assignment():
                self._restarts.pop(tp, None)
                return
            ours = TopicPartition(*tp)
            await self._rebalance.on_lost([ours])
            try:
                if self._transactions is not None:
                    await self._transactions.begin(ours)
                offset = self._restarts[tp]
                await self._seek(consumer, tp, await self._committed(consumer, tp) if offset is None else offset)
            except IllegalStateError:
                self._restarts.pop(tp, None)
                return
            except (KafkaError, TimeoutError, Unreachable) as exc:
                self._health.trouble = f"{tp.topic}/{tp.partition} waits to be taken up again: {exc!r}"
                log.warning("partition not taken up yet", partition=f"{tp.topic}/{tp.partition}", reason=repr(exc))
                asyncio.get_running_loop().call_later(PAUSE, self._wake.set)
                return
            self._counts["restarts"] += 1
            self._generation += 1
            self._next.pop(tp, None)
            if offset is not None:
                self._next[tp] = offset
            del self._restarts[tp]
            self._health.trouble = None
            await self._rebalance.on_assigned([ours])

    async def _replace_consumer(self) -> None:
        log.error("replacing the consumer", reason=self._health.trouble)
        self._counts["consumers"] += 1
        old = self._consumer
        async with self._assigning:
            ours = [TopicPartition(*tp) for tp in old.assignment()]
            await self._rebalance.on_revoked(ours)  # what it can still finish and commit, it may
            if self._transactions is not None:
                await self._transactions.end(ours)
            self._generation += 1
            self._consumer = None  # its last words to the listener are not ours any more
            self._given_up.set()
        await leave(old, REQUEST_TIMEOUT)
        while True:
            try:
                await self._join()
                return
            except Unreachable as exc:
                self._health.trouble = str(exc)
                await asyncio.sleep(PAUSE)

    def state(self) -> str | None:
        """Why records are not coming in, in words for a person; None when they are, or when there are none."""
        unreadable = "; ".join(why for _, why in self._unreadable.values())
        return self._health.trouble or unreadable or None

    def statistics(self) -> SourceStatistics:
        return SourceStatistics(
            poll_failures_total=self._counts["poll_failures"],
            consumers_replaced_total=self._counts["consumers"],
            partitions_restarted_total=self._counts["restarts"],
            deleted_offsets_total=self._counts["deleted_offsets"],
            truncations_total=self._counts["truncations"],
            unreadable_partitions=len(self._unreadable),
        )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client ships no types
    """Says which consumer it is that calls, and keeps what is raised."""

    def __init__(self, source: KafkaSource, consumer: Any) -> None:
        self._source = source
        self._consumer = consumer

    async def on_partitions_assigned(self, assigned: Collection[ClientPartition]) -> None:
        try:
            await self._source.assigned(self._consumer, assigned)
        except Exception as exc:
            self._source.failed(exc)
            raise

    async def on_partitions_revoked(self, revoked: Collection[ClientPartition]) -> None:
        try:
            await self._source.revoked(self._consumer, revoked)
        except Exception as exc:
            self._source.failed(exc)
            raise
