"""The partitions that are ours: how the flow hears of them, and how one is taken up again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import IllegalStateError, KafkaError

from streamer.adapters.kafka.diagnosis import ConsumerTimeouts, Diagnosis, Health
from streamer.adapters.kafka.poll_schedule import PollSchedule
from streamer.adapters.kafka.positions import Positions, drop_fetched
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.core.events import TopicPartition
from streamer.errors import Unreachable
from streamer.protocols import Rebalance
from streamer.telemetry.waiting import Waiting

log = structlog.get_logger(__name__)


class Assignment:
    """What a member of the group owns now, how well it can be read, and whose turn it is. `rebalance` has to be set
    before it owns anything.

    Partitions in `restarts` are not read: they wait for `take_up_again`. With `transactions` all begin like that, for
    each needs a producer of its own, started before its offset is read. `wake`: set when something waits.
    """

    rebalance: Rebalance

    def __init__(
        self,
        positions: Positions,
        transactions: KafkaTransactions | None,
        timeouts: ConsumerTimeouts,
        clock: Callable[[], float],
    ) -> None:
        self._positions = positions
        self._transactions = transactions
        self._timeouts = timeouts
        self._clock = clock
        self._health = Health(timeouts, clock)
        self._schedule = PollSchedule(timeouts.quarantine, clock)
        self.wake = asyncio.Event()
        self.restarts_total = 0
        self._restarts: dict[ClientPartition, int | None] = {}  # from there, or from the committed offset
        self._changing_hands = asyncio.Lock()  # never held by a poll, which waits for the change

    async def assigned(self, tps: Collection[ClientPartition]) -> None:
        """By the group; all that was assigned before has been revoked."""
        async with self._changing_hands:
            self._positions.forget()
            self._restarts.clear()
            self._health = Health(self._timeouts, self._clock)
            self._schedule = PollSchedule(self._timeouts.quarantine, self._clock)
            await self.rebalance.on_assigned(_ours(tps) if self._transactions is None else [])
        if self._transactions is not None:
            self.restart(dict.fromkeys(tps))

    async def revoked(self, tps: Collection[ClientPartition]) -> None:
        """What can still be finished and committed, may be."""
        async with self._changing_hands:
            await self.rebalance.on_revoked(_ours(tps))
            self._positions.changed()
            if self._transactions is not None:
                await self._transactions.end(_ours(tps))

    @property
    def problem(self) -> str | None:
        """Why records are not coming in, in words for a person; None when they are, or when there are none."""
        return self._health.problem or "; ".join(self._schedule.unreadable) or None

    def waits(self) -> list[Waiting]:
        """The same, as one word each and with its end."""
        found: list[Waiting] = []
        if self._health.problem is not None:
            found.append(Waiting("consuming", self._health.problem))
        if (next_try := self._schedule.next_try) is not None:
            until = time.time() + max(0.0, next_try - self._clock())
            found.append(Waiting("partition", "; ".join(self._schedule.unreadable), until))
        return found

    @property
    def unreadable_partitions(self) -> int:
        return len(self._schedule.unreadable)

    def report(self, problem: str | None) -> None:
        """What keeps records from coming in; None when it is over."""
        self._health.report(problem)

    async def check(self, consumer: Any, topics: Sequence[str]) -> Diagnosis:
        """Whether the consumer is well. Raises Unreachable when one of these topics has been deleted."""
        return await self._health.check(consumer, topics)

    def readable(self, tps: Collection[TopicPartition]) -> list[ClientPartition]:
        """Those of them to ask for now."""
        return self._schedule.choose([tp for tp in (ClientPartition(*tp) for tp in tps) if tp not in self._restarts])

    async def drop_outdated(self, consumer: Any, wanted: Sequence[ClientPartition]) -> None:
        """What the client has fetched of those that were left alone until now: a batch that has been mended since would
        be found broken once more."""
        await drop_fetched(consumer, self._schedule.outdated(wanted), self._timeouts.request)

    def asked(self, wanted: Collection[ClientPartition]) -> None:
        """The client is to hand over records of these."""
        self._health.asked(wanted)

    def handed_over(self, wanted: Collection[ClientPartition], nexts: Mapping[ClientPartition, int]) -> None:
        """The client did so, of some of them: up to these offsets."""
        for tp, offset in nexts.items():
            self._positions.advance(tp, offset)
        self._health.excused(nexts)
        self._schedule.succeeded(wanted, nexts)

    def failed(self, wanted: Sequence[ClientPartition], error: BaseException) -> None:
        """It could not read them, or one of them."""
        quarantined = self._schedule.failed(wanted, self._positions.get(wanted[0]), error)
        self._health.excused(quarantined)  # a new consumer could not read them either

    async def seek_back(self, consumer: Any) -> None:
        """The client lost its place: go to where the flow is."""
        lost = await self._positions.seek_back(consumer, consumer.assignment() - self._restarts.keys())
        self.restart({tp: None for tp in lost if tp not in self._restarts})

    def restart(self, starts: Mapping[ClientPartition, int | None]) -> None:
        """Have these taken up again, from there or (None) from the committed offset."""
        if starts:
            self._restarts.update(starts)
            self.wake.set()

    async def take_up_again(self, consumer: Any) -> None:
        """Those that wait for it: their work in flight is void."""
        for broken in self._transactions.broken if self._transactions is not None else ():
            self._restarts.setdefault(ClientPartition(*broken), None)
        for tp in list(self._restarts):
            async with self._changing_hands:
                if tp in self._restarts and tp in consumer.assignment():
                    await self._take_up(consumer, tp)
                else:
                    self._restarts.pop(tp, None)

    async def _take_up(self, consumer: Any, tp: ClientPartition) -> None:
        ours = TopicPartition(*tp)
        await self.rebalance.on_lost([ours])
        try:
            if self._transactions is not None:
                await self._transactions.begin(ours)
            await self._positions.restart(consumer, tp, self._restarts[tp])
        except IllegalStateError:
            self._restarts.pop(tp, None)
            return
        except (KafkaError, TimeoutError, Unreachable) as exc:
            self._health.report(f"{ours} waits to be taken up again: {exc!r}")
            log.warning("partition not resumed yet; retrying", partition=str(ours), reason=repr(exc))
            asyncio.get_running_loop().call_later(self._timeouts.pause, self.wake.set)
            return
        self.restarts_total += 1
        del self._restarts[tp]
        self._health.report(None)
        await self.rebalance.on_assigned([ours])


def _ours(tps: Collection[ClientPartition]) -> list[TopicPartition]:
    return [TopicPartition(*tp) for tp in tps]
