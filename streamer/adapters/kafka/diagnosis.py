"""Whether a consumer is well: the client may be stuck or dead without saying so, while its heartbeats go on.

Reported of whole clusters that went down and came back (https://github.com/aio-libs/aiokafka/issues/703) and of
positions out of range (https://github.com/aio-libs/aiokafka/issues/718).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import IllegalStateError, KafkaConnectionError, KafkaError

from streamer.adapters.kafka.client_log import CLIENT_LOG
from streamer.adapters.kafka.joining import call_off
from streamer.errors import Unreachable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerTimeouts:
    """Seconds. `interval`: between checks. `quiet`: without records, until the broker is asked whether there are any.
    `stuck`: with records there and none handed over, until the consumer is replaced. `unreachable`: without any answer,
    until it is replaced, which also looks the brokers' addresses up again. `request`: for an answer to a check. `step`:
    for one that the flow waits for, such as to a commit. `pause`: before a failed attempt is repeated. `quarantine`:
    before a partition that cannot be read is tried again. `goodbye`: for a consumer whose start has failed."""

    interval: float = 1.0
    quiet: float = 2.0
    stuck: float = 60.0
    unreachable: float = 600.0
    request: float = 2.5
    step: float = 10.0
    pause: float = 2.0
    quarantine: float = 8.0
    goodbye: float = 1.0


class Diagnosis(Enum):
    WELL = "well"
    WAITING = "waiting"
    SICK = "sick"


class Health:
    """What is known of one assignment."""

    def __init__(self, timeouts: ConsumerTimeouts, clock: Callable[[], float]) -> None:
        self._trouble: str | None = None
        self._timeouts = timeouts
        self._clock = clock
        self._asked: dict[ClientPartition, float] = {}  # since when in vain
        self._last_asked: dict[ClientPartition, float] = {}
        self._silent_since: float | None = None
        self._was_connected = True
        self._missing: set[str] = set()
        self._refusals = CLIENT_LOG.refusals
        self._refused = False

    @property
    def problem(self) -> str | None:
        """In words for a person, None while all is well."""
        return self._trouble

    def report(self, problem: str | None) -> None:
        """What has been found out last; None when it is over."""
        self._trouble = problem

    def asked(self, tps: Iterable[ClientPartition]) -> None:
        now = self._clock()
        for tp in tps:
            # Time in which nobody asked, for want of room, says nothing about the consumer.
            if now - self._last_asked.get(tp, now) > self._timeouts.quiet:
                self._asked.pop(tp, None)
            self._asked.setdefault(tp, now)
            self._last_asked[tp] = now

    def excused(self, tps: Iterable[ClientPartition]) -> None:
        """Records came of them, or nobody will ask for a while."""
        for tp in tps:
            self._asked.pop(tp, None)

    async def check(self, consumer: Any, topics: Sequence[str]) -> Diagnosis:
        """Raises Unreachable when one of these topics has been deleted."""
        death = cause_of_death(consumer)
        if death is not None:
            self.report(death)
            return Diagnosis.SICK
        if self._is_refused():
            self.report(f"Kafka rejects the connection: {CLIENT_LOG.refusal}")
            return Diagnosis.WAITING  # another consumer would not be let in either
        if not self._is_connected(consumer):
            return self._silence(KafkaConnectionError("there is no connection to a broker"))
        await self._check_topics(consumer, topics)
        now = self._clock()
        idle = [tp for tp, since in self._asked.items() if now - since > self._timeouts.quiet]
        if not idle:
            if self._silent_since is not None:
                self._silent_since = None
                self.report(None)
            return Diagnosis.WELL
        try:
            ends = await asyncio.wait_for(consumer.end_offsets(idle), self._timeouts.request)
        except (KafkaError, TimeoutError) as exc:
            return self._silence(exc)
        self._silent_since = None
        self.report(None)
        for tp in idle:
            if await self._position(consumer, tp) >= ends[tp]:
                self._asked[tp] = self._clock()  # all read; transaction markers have no records
            elif now - self._asked.get(tp, now) > self._timeouts.stuck:
                self.report(
                    f"{tp.topic}/{tp.partition}: no records for {self._timeouts.stuck:g} s although the broker has some"
                )
                return Diagnosis.SICK
        return Diagnosis.WELL

    def _is_connected(self, consumer: Any) -> bool:
        """Twice in a row without a connection to any broker is no moment. Heartbeats and fetches keep them open."""
        before, self._was_connected = self._was_connected, has_connection(consumer)
        return before or self._was_connected

    def _is_refused(self) -> bool:
        """Since the last check."""
        was_refused, self._refused = self._refused, CLIENT_LOG.refusals > self._refusals
        self._refusals = CLIENT_LOG.refusals
        if was_refused and not self._refused:
            self.report(None)
        return self._refused

    def _silence(self, error: Exception) -> Diagnosis:
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
        silent = now - self._silent_since
        self.report(f"no answer from Kafka: {in_words(error, self._timeouts.request)}")
        return Diagnosis.SICK if silent > self._timeouts.unreachable else Diagnosis.WAITING

    async def _position(self, consumer: Any, tp: ClientPartition) -> int:
        """-1 where it has none."""
        try:
            return int(await asyncio.wait_for(consumer.position(tp), 1.0))
        except (KafkaError, TimeoutError, IllegalStateError):
            return -1

    async def _check_topics(self, consumer: Any, topics: Sequence[str]) -> None:
        known = consumer._client.cluster  # noqa: SLF001  # what the client knows, which it refreshes by itself
        if all(known.partitions_for_topic(topic) for topic in topics):
            self._missing.clear()
            return
        try:
            cluster = await asyncio.wait_for(consumer._client.fetch_all_metadata(), self._timeouts.request)  # noqa: SLF001
        except (KafkaError, TimeoutError):
            return
        missing = {topic for topic in topics if not cluster.partitions_for_topic(topic)}
        gone = sorted(missing & self._missing)  # twice in a row: it may just be on its way
        if gone:
            raise Unreachable(f"topic {gone[0]!r} has been deleted while it was being read")
        self._missing = missing


def has_connection(consumer: Any) -> bool:
    """Whether the client is connected to any broker. There is no public way to ask; these are its parts as of 0.14."""
    return any(connection.connected() for connection in consumer._client._conns.values())  # noqa: SLF001


def cause_of_death(consumer: Any) -> str | None:
    """Why this consumer will never hand over a record again; None while it lives.

    Its tasks may end and nobody reads their errors (https://github.com/aio-libs/aiokafka/issues/1037); there is no
    public way to ask, these are its parts as of 0.14.
    """
    fetching = consumer._fetcher and consumer._fetcher._fetch_task  # noqa: SLF001
    coordinating = getattr(consumer._coordinator, "_coordination_task", None)  # noqa: SLF001
    for name, task in (("fetching", fetching), ("coordination", coordinating)):
        if task is not None and task.done():
            error = None if task.cancelled() else task.exception()
            return f"its {name} has ended: {error!r}"
    try:
        # Errors of the coordination wait here for whoever polls, and the coordination waits for that.
        consumer._coordinator.check_errors()  # noqa: SLF001
    except KafkaError as exc:
        log.warning("consumer group refused the member", reason=repr(exc))
    return None


async def leave(consumer: Any, timeout: float) -> None:
    """Stop the consumer within `timeout` seconds: it may hang (https://github.com/aio-libs/aiokafka/issues/773). Errors
    of its tasks are logged, not raised."""
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.sleep(0)  # from now on it will not join again
    await call_off(consumer)
    await asyncio.wait([stopping], timeout=timeout)
    if not stopping.done():
        stopping.cancel()
        reason = f"still at it after {timeout:g} s"
    elif stopping.cancelled():
        reason = "one of its tasks was cancelled"
    else:
        error = stopping.exception()
        if error is None:
            return
        reason = repr(error)
    log.warning("consumer did not stop cleanly", reason=reason)
    await _dismantle(consumer, timeout)


async def _dismantle(consumer: Any, timeout: float) -> None:
    """End its tasks: otherwise they go on fetching, and keep the membership in the group alive."""
    coordinator, fetcher = consumer._coordinator, consumer._fetcher  # noqa: SLF001
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    found: list[asyncio.Task[Any] | None] = [getattr(coordinator, name, None) for name in names]
    if fetcher is not None:
        found += [fetcher._fetch_task, *fetcher._pending_tasks]  # noqa: SLF001
    tasks = [task for task in found if task is not None]
    for task in tasks:
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
    if tasks:
        await asyncio.wait(tasks, timeout=timeout)
    with suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(consumer._client.close(), timeout)  # noqa: SLF001


def in_words(error: Exception, seconds: float) -> str:
    """Without the names of classes that the client puts before its words. `seconds`: after which it timed out."""
    if isinstance(error, TimeoutError) and not str(error):
        return f"nothing within {seconds:g} s"
    name = type(error).__name__
    return str(error).removeprefix(f"{name}: ") or name
