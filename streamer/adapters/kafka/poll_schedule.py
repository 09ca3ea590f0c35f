"""Whose turn it is to be read: every partition in turn, the broken ones by themselves or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

import structlog
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CorruptRecordException

log = structlog.get_logger(__name__)

TRIES = 3  # of reading a partition by itself, before it is left alone for a while
SECOND_CHANCE = 1.5  # seconds after which one that is read again without an error, and without a record, is well


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
        self._on_trial: dict[ClientPartition, tuple[float, str]] = {}  # since when, and why they were unreadable
        self._outdated: set[ClientPartition] = set()

    @property
    def unreadable(self) -> Sequence[str]:
        """Why, for each partition that is left alone now, or that has been and is not known to be well yet."""
        return [why for _, why in chain(self._unreadable.values(), self._tried_again().values())]

    @property
    def next_try(self) -> float | None:
        """When the first of them is read again, by our clock; None when there are none."""
        return min((when for when, _ in chain(self._unreadable.values(), self._tried_again().values())), default=None)

    def _tried_again(self) -> Mapping[ClientPartition, tuple[float, str]]:
        now = self._clock()
        return {tp: (since, why) for tp, (since, why) in self._on_trial.items() if now < since + SECOND_CHANCE}

    def choose(self, tps: Collection[ClientPartition]) -> list[ClientPartition]:
        """Those to be read now, the first one first; none when all are left alone."""
        now = self._clock()
        for tp in [tp for tp, (until, _) in self._unreadable.items() if until <= now]:
            _, why = self._unreadable.pop(tp)
            self._on_trial[tp] = (now, why)
            self._outdated.add(tp)
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

    def outdated(self, wanted: Sequence[ClientPartition]) -> Sequence[ClientPartition]:
        """Those of them that were left alone until now: what the client has of them is from before. Told once."""
        found = [tp for tp in wanted if tp in self._outdated]
        self._outdated.difference_update(found)
        return found

    def succeeded(self, wanted: Collection[ClientPartition], handed_over: Collection[ClientPartition]) -> None:
        """A poll for `wanted` brought records of `handed_over`."""
        self._suspects.difference_update(wanted)
        for tp in handed_over:
            self._tries.pop(tp, None)
            self._on_trial.pop(tp, None)

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
        self._on_trial.pop(tp, None)
        self._unreadable[tp] = (self._clock() + self._quarantine, f"{where} cannot be read: {_said(error, offset)}")
        return wanted


def _said(error: BaseException, offset: int | None) -> str:
    if isinstance(error, CorruptRecordException):
        place = "" if offset is None else f" at or after offset {offset}"
        return f"the broker has a damaged batch{place} (its checksum is wrong)"
    return str(error)
