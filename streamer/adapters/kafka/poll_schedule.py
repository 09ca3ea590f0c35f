"""Whose turn it is to be read: every partition in turn, the broken ones by themselves or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import structlog
from aiokafka import TopicPartition as ClientPartition

log = structlog.get_logger(__name__)

TRIES = 3  # of reading a partition by itself, before it is left alone for a while


class PollSchedule:
    """Which partitions the next poll asks for.

    The client does not say whose error a failed poll was. So all of them are suspects, and are read one at a time until
    they are cleared; one that fails by itself is left alone for `quarantine` seconds, and the others flow on.
    """

    def __init__(self, quarantine: float, clock: Callable[[], float]) -> None:
        self._quarantine = quarantine
        self._clock = clock
        self._turn = 0
        self._suspects: set[ClientPartition] = set()
        self._tries: Counter[ClientPartition] = Counter()
        self._unreadable: dict[ClientPartition, tuple[float, str]] = {}  # until when, and why

    @property
    def unreadable(self) -> Sequence[str]:
        """Why, for each partition that is left alone now."""
        return [why for _, why in self._unreadable.values()]

    @property
    def next_try(self) -> float | None:
        """When the first of them is read again, by our clock; None when none is left alone."""
        return min((until for until, _ in self._unreadable.values()), default=None)

    def choose(self, tps: Collection[ClientPartition]) -> list[ClientPartition]:
        """Those to be read now, the first one first; none when all are left alone."""
        now = self._clock()
        for tp in [tp for tp, (until, _) in self._unreadable.items() if until <= now]:
            del self._unreadable[tp]
            self._suspects.add(tp)
        wanted = sorted(tp for tp in tps if tp not in self._unreadable)
        if not wanted:
            return []
        self._turn += 1
        alone = [tp for tp in wanted if tp in self._suspects]
        if alone:
            return [alone[self._turn % len(alone)]]
        turn = self._turn % len(wanted)
        return wanted[turn:] + wanted[:turn]

    def succeeded(self, wanted: Collection[ClientPartition], handed_over: Collection[ClientPartition]) -> None:
        """A poll for `wanted` brought records of `handed_over`."""
        self._suspects.difference_update(wanted)
        for tp in handed_over:
            self._tries.pop(tp, None)

    def failed(
        self, wanted: Sequence[ClientPartition], offset: int | None, error: BaseException
    ) -> Sequence[ClientPartition]:
        """Those to be left alone now. Nothing is skipped: a damaged batch does not say where the next one begins.
        `offset`: where the first one of them is read from, for the log."""
        if len(wanted) > 1:
            self._suspects.update(wanted)
            return ()
        (tp,) = wanted
        self._tries[tp] += 1
        if self._tries[tp] < TRIES:
            return ()
        where = f"{tp.topic}/{tp.partition}"
        log.error("partition cannot be read", partition=where, offset=offset, reason=repr(error))
        self._unreadable[tp] = (self._clock() + self._quarantine, f"{where} cannot be read: {error}")
        return wanted
