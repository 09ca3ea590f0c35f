"""A topic read whole by a consumer without group membership; only the verdict position is committed, by the one who has
the place in the group (see Seat)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import IllegalStateError, KafkaError
from anyio import CancelScope

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.diagnosis import ConsumerTimeouts, Diagnosis, Health, leave
from streamer.adapters.kafka.poll_schedule import PollSchedule
from streamer.adapters.kafka.positions import drop_fetched
from streamer.adapters.kafka.records import AS_OURS, records_in
from streamer.adapters.kafka.seat import Seat
from streamer.adapters.kafka.share import Share
from streamer.core.events import Record, TopicPartition
from streamer.errors import RetriableError, Unreachable

log = structlog.get_logger(__name__)

COMMIT_TIMEOUT = 10.0


class KafkaChangelog:
    """A Changelog of one topic, its partitions assigned by hand; `group_id` names where `commit` stores offsets, which
    only one changelog at a time may do, or each for its part of the partitions, if it is `shared`. `session_timeout`:
    seconds after which one that was killed makes room.

    A consumer that is stuck or dead is replaced, and goes on where its predecessor was; so do partitions added later.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        group_id: str | None,
        *,
        session_timeout: float = 10.0,
        isolation_level: str = "read_uncommitted",
        max_poll_records: int = 2000,
        timeouts: ConsumerTimeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
        shared: bool = False,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._max_poll_records = max_poll_records
        self._timeouts = timeouts or ConsumerTimeouts()
        self._clock = clock
        self._positions: dict[TopicPartition, int] = {}
        self._options = {
            **connection.consumer_options(),
            "key_deserializer": AS_OURS,
            "isolation_level": isolation_level,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
        }
        self._consumer: Any = None
        place = Share if shared else Seat
        self._seat = None if group_id is None else place(connection, topic, group_id, session_timeout=session_timeout)
        self._seat_is_taken = False
        self._health = Health(self._timeouts, clock)
        self._check_at = 0.0
        self._unreachable: str | None = None  # why a consumer could not be replaced yet
        self._schedule = PollSchedule(self._timeouts.quarantine, clock)

    async def start(self, *, from_beginning: bool = True) -> None:
        """Assign every partition of the topic and go to its beginning or its end. Raises Unreachable, and
        ConfigurationError when another one commits for the group."""
        self._consumer = AIOKafkaConsumer(**self._options)
        try:
            await self._connection.reach(self._consumer.start())
            if not isinstance(self._seat, Share):
                await self._connection.reach(self._assign(from_beginning))
            if self._seat is not None and not self._seat_is_taken:
                await self._seat.take()
                self._seat_is_taken = True
                if isinstance(self._seat, Share):
                    await self._seat.begin()
            if isinstance(self._seat, Share):
                await self._connection.reach(self._assign(from_beginning))
        except BaseException:
            with CancelScope(shield=True):
                await self._drop(self._timeouts.goodbye)
            raise
        self._unreachable = None
        self._health = Health(self._timeouts, self._clock)
        self._check_at = self._clock() + self._timeouts.interval

    async def _assign(self, from_beginning: bool) -> None:
        cluster = await self._consumer._client.fetch_all_metadata()  # noqa: SLF001  # without a subscription the client has no public way
        found = cluster.partitions_for_topic(self._topic)
        if not found:
            raise Unreachable(f"topic {self._topic!r} does not exist; create it with: streamer topics --create")
        if isinstance(self._seat, Share):
            found = self._seat.partitions
        tps = [ClientPartition(self._topic, partition) for partition in sorted(found)]
        self._consumer.assign(tps)
        if not tps:
            return  # there are more of us than partitions
        find = self._consumer.beginning_offsets if from_beginning else self._consumer.end_offsets
        for tp, offset in (await find(tps)).items():
            position = self._positions.setdefault(TopicPartition(*tp), offset)
            self._consumer.seek(tp, position)

    @property
    def is_changing(self) -> bool:
        """See Changelog. Never where the topic is read whole."""
        return isinstance(self._seat, Share) and self._seat.is_changing

    async def change(self) -> None:
        """See Changelog. Raises Unreachable when no broker answers."""
        if not isinstance(self._seat, Share):
            raise AssertionError("a topic that is read whole does not change hands. This is a bug.")
        await self._seat.let_go()
        self._positions.clear()
        if self._consumer is None:
            await self.start()
        else:
            await self._connection.reach(self._assign(from_beginning=True))

    async def aclose(self, timeout: float = 5.0) -> None:
        """Give the consumer up, and the place in the group."""
        await self._drop(timeout)
        if self._seat is not None:
            await self._seat.aclose(timeout)

    async def _drop(self, timeout: float) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await leave(consumer, timeout)

    async def _survives(self) -> bool:
        """Whether there is a consumer to poll; a sick one is replaced, as soon as a broker answers."""
        if self._consumer is not None and self._clock() >= self._check_at:
            self._check_at = self._clock() + self._timeouts.interval
            known = self._consumer._client.cluster.partitions_for_topic(self._topic) or ()  # noqa: SLF001
            grown = len(known) > len(self._positions) and not isinstance(self._seat, Share)
            if grown or await self._health.check(self._consumer, [self._topic]) is Diagnosis.SICK:
                log.warning("replacing the consumer", reason="new partitions" if grown else self._health.problem)
                await self._drop(5.0)
        if self._consumer is None:
            try:
                await self.start()
            except Unreachable as exc:
                self._unreachable = str(exc)
                log.debug("consumer not replaced yet; retrying", reason=str(exc))
                return False
        return True

    def state(self) -> str | None:
        """Why records are not coming in, in words for a person; None when they are, or when there are none."""
        return self._unreachable or self._health.problem or "; ".join(self._schedule.unreadable) or None

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Raises Unreachable when no broker tells them in time."""
        if self._consumer is None:
            raise Unreachable(f"the ends of {self._topic!r} cannot be read: the consumer is being replaced")
        try:
            ends = await self._consumer.end_offsets([ClientPartition(*tp) for tp in self._positions])
        except KafkaError as exc:
            raise Unreachable(f"the ends of {self._topic!r} cannot be read: {exc!r}") from exc
        return {TopicPartition(*tp): offset for tp, offset in ends.items()}

    async def beginning_offsets(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where the logs of these partitions begin. Raises Unreachable when no broker tells them in time."""
        if self._consumer is None:
            raise Unreachable(f"the beginnings of {self._topic!r} cannot be read: the consumer is being replaced")
        try:
            first = await self._consumer.beginning_offsets([ClientPartition(*tp) for tp in tps])
        except KafkaError as exc:
            raise Unreachable(f"the beginnings of {self._topic!r} cannot be read: {exc!r}") from exc
        return {TopicPartition(*tp): offset for tp, offset in first.items()}

    async def poll(self, timeout: float) -> Sequence[Record]:
        """Records in offset order per partition; after a client error it reads on from where it really was, and a
        partition that cannot be read is left alone for a while. Raises Unreachable when the topic has been deleted, or
        another one has taken the place in the group."""
        if self._seat is not None:
            self._seat.check()
        if not await self._survives():
            await asyncio.sleep(timeout)
            return []
        wanted = self._schedule.choose([ClientPartition(*tp) for tp in self._positions])
        if not wanted:
            await asyncio.sleep(timeout)
            return []
        await drop_fetched(self._consumer, self._schedule.outdated(wanted), self._timeouts.request)
        self._health.asked(wanted)
        try:
            batches = await self._consumer.getmany(
                *wanted, timeout_ms=max(1, int(timeout * 1000)), max_records=self._max_poll_records
            )
        except KafkaError as exc:
            log.warning("poll failed; reading again from the last record handed over", reason=repr(exc))
            self._health.excused(self._schedule.failed(wanted, self._positions[TopicPartition(*wanted[0])], exc))
            for tp, offset in self._positions.items():
                self._consumer.seek(ClientPartition(*tp), offset)
            await asyncio.sleep(timeout)
            return []
        # After a poll without an error the client's position is ours, and it has passed what holds no records:
        # transaction markers, aborted batches, the compacted end of a log.
        self._health.excused(batches)
        self._schedule.succeeded(wanted, batches)
        for tp in wanted:
            with suppress(TimeoutError):  # it has none while a reset goes on
                async with asyncio.timeout(1.0):  # wait_for would make a task of each
                    self._positions[TopicPartition(*tp)] = await self._consumer.position(tp)
        return records_in(batches)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is asked of the brokers meanwhile. Right after a poll: the client asks for more as soon as it has
        handed over what it had, and gets the next single record while those behind it have to wait for another turn."""
        consumer, tps = self._consumer, [ClientPartition(*tp) for tp in self._positions]
        if consumer is not None:
            consumer.pause(*tps)
        try:
            yield
        finally:
            if consumer is not None and consumer is self._consumer:
                consumer.resume(*tps)

    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset to read per partition: everything before it that holds a record has been handed over."""
        return dict(self._positions)

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        for tp, offset in offsets.items():
            self._consumer.seek(ClientPartition(*tp), offset)
            self._positions[tp] = offset

    async def committed(self) -> Mapping[TopicPartition, int]:
        """The next offset per partition that `commit` has stored. Raises Unreachable."""
        if self._seat is None:
            return {}
        try:
            found = await self._seat.committed([ClientPartition(*tp) for tp in self._positions], COMMIT_TIMEOUT)
        except (KafkaError, TimeoutError) as exc:
            raise Unreachable(f"committed offsets of {self._topic!r} cannot be read: {exc!r}") from exc
        return {TopicPartition(*tp): offset for tp, offset in found.items()}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Raises RetriableError when the coordinator does not answer in time, or refuses for the moment."""
        if self._seat is None:
            raise AssertionError("a changelog without a group has nowhere to commit. This is a bug.")
        try:
            mine = {ClientPartition(*tp): offset for tp, offset in offsets.items()}
            await self._seat.commit(mine, COMMIT_TIMEOUT)
        except (KafkaError, TimeoutError, IllegalStateError) as exc:
            raise RetriableError(f"verdict offsets not committed: {exc!r}") from exc
