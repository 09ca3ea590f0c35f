"""The latest verdicts of each kind, for whoever looks only now."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, get_args

import orjson

from streamer.core.verdicts import Verdict, VerdictKind, parse_verdict

KINDS: Final[tuple[VerdictKind, ...]] = get_args(VerdictKind)
_MOST: Final = 300  # of each kind, so that a flood of one does not wash the others away


@dataclass(frozen=True, slots=True)
class RecentVerdict:
    """`number` grows from verdict to verdict; `at`: when it was given, in milliseconds since the epoch."""

    number: int
    at: int
    verdict: Verdict


class RecentVerdicts:
    """`first`: the first number. One of a later start must be larger than all of an earlier one, so that whoever asks
    for what came after a number gets all that it has not seen, restart or not."""

    def __init__(self, first: int = 1, most: int = _MOST) -> None:
        self.latest = first - 1
        self._kept: dict[VerdictKind, deque[RecentVerdict]] = {kind: deque(maxlen=most) for kind in KINDS}

    def add(self, verdicts: Iterable[Verdict], now: int) -> None:
        for verdict in verdicts:
            self.latest += 1
            self._kept[verdict.verdict].append(RecentVerdict(self.latest, now, verdict))

    def after(self, number: int, kinds: Collection[VerdictKind], limit: int) -> list[RecentVerdict]:
        """The newest `limit` of these kinds that came after `number`, newest first."""
        newest = heapq.merge(*(reversed(self._kept[kind]) for kind in kinds), key=lambda each: -each.number)
        found: list[RecentVerdict] = []
        for each in newest:
            if each.number <= number or len(found) == limit:
                break
            found.append(each)
        return found

    def delay(self, since: int) -> float | None:
        """The median of the seconds from a text's record to its verdict, of those given after `since` (milliseconds);
        None where there are none. It trusts the clock of whoever set the record's time."""
        delays = [
            (each.at - source.timestamp) / 1000
            for kept in self._kept.values()
            for each in kept
            if each.at > since and (source := each.verdict.source) is not None and source.timestamp
        ]
        return max(0.0, median(delays)) if delays else None

    def state(self) -> list[tuple[int, dict[str, Any]]]:
        """All that is kept, oldest first, as JSON can hold it: without texts, which are the index's."""
        kept = heapq.merge(*self._kept.values(), key=lambda each: each.number)
        return [(each.at, each.verdict.to_dict()) for each in kept]

    def resume(self, state: Sequence[Any], space: str) -> None:
        """What an earlier one kept comes before what is kept here. Verdicts of other spaces, and what is none, stay
        out."""
        newer = [(each.at, each.verdict) for kind in KINDS for each in self._kept[kind]]
        older = []
        for at, document in state:
            verdict = parse_verdict(orjson.dumps(document))
            if isinstance(verdict, Verdict) and verdict.space == space and isinstance(at, int):
                older.append((at, verdict))
        for kept in self._kept.values():
            kept.clear()
        for at, verdict in [*older, *newer]:
            self.add([verdict], at)
