"""The dead letters of the last hour: how many of each kind, and the commonest reason."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

MINUTES: Final = 60
MOST_REASONS: Final = 50  # told apart in a minute
LONGEST_REASON: Final = 200  # characters
OTHER: Final = "other reasons"


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Of one kind; `reason` is the commonest."""

    kind: str
    count: int
    reason: str


@dataclass(slots=True)
class _Minute:
    number: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # kind, reason


class DeadLetterHour:
    """Minute by minute, in bounded memory: reasons beyond MOST_REASONS a minute are counted together."""

    def __init__(self) -> None:
        self._minutes: deque[_Minute] = deque()

    def add(self, kind: str, reason: str, now: float) -> None:
        """`reason`: for a person, without what must not be shown. `now`: seconds of a clock that never jumps."""
        number = int(now // 60)
        if not self._minutes or self._minutes[-1].number != number:
            self._minutes.append(_Minute(number))
            self._forget(number)
        counts = self._minutes[-1].counts
        key = (kind, reason[:LONGEST_REASON])
        counts[key if key in counts or len(counts) < MOST_REASONS else (kind, OTHER)] += 1

    def kinds(self, now: float) -> list[DeadLetters]:
        """The most frequent kind first."""
        self._forget(int(now // 60))
        total: Counter[tuple[str, str]] = Counter()
        for minute in self._minutes:
            total.update(minute.counts)
        kinds: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        for (kind, reason), count in total.most_common():
            kinds[kind] += count
            if reasons.get(kind, OTHER) == OTHER:
                reasons[kind] = reason
        return [DeadLetters(kind, count, reasons[kind]) for kind, count in kinds.most_common()]

    def _forget(self, number: int) -> None:
        while self._minutes and self._minutes[0].number <= number - MINUTES:
            self._minutes.popleft()
