"""How unusual a score is among recent ones: conformal p-values, and the threshold that belongs to a rate of alarms."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import ceil, floor, inf
from typing import Final

_MOST: Final = 20_000
_FEWEST: Final = 200
_ALARMS: Final = 20  # expected in a full reference: the more, the steadier the rate; the fewer, the sooner it follows


class Reference:
    """The scores of the most recent ordinary events; larger is more unusual.

    An event as likely to be anywhere in the order of scores as those of the reference has a p-value of at most `a` with
    probability at most `a`, whatever the scores' distribution (Vovk, Gammerman, Shafer 2005). Whoever is to be judged
    enters the reference too, unusual or not: without those the next threshold would be lower, and the next one lower
    still. A stream that drifts therefore moves its reference along instead of raising alarms for ever.

    `crowd` is the number of events among which a score was found as the largest: in a crowd twice as large, scores
    beyond any height are about twice as frequent. None stands for the average of the reference.
    """

    def __init__(self, rate: float) -> None:
        if not 0 < rate < 1:
            raise ValueError(f"the rate must lie between 0 and 1, got {rate}")
        self.rate = rate
        self.size = min(_MOST, max(1_000, ceil(_ALARMS / rate)))
        self.needed = min(self.size, max(_FEWEST, ceil(2 / rate)))
        self._arrived: deque[tuple[float, int]] = deque()
        self._sorted: list[float] = []
        self._crowds = 0

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def suffices(self) -> bool:
        """Whether there are enough scores for the rate to mean something."""
        return len(self._sorted) >= self.needed

    def add(self, score: float, crowd: int = 1) -> None:
        self._arrived.append((score, crowd))
        insort(self._sorted, score)
        self._crowds += crowd
        if len(self._sorted) > self.size:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Forget the score that has been here for longest."""
        oldest, its_crowd = self._arrived.popleft()
        del self._sorted[bisect_left(self._sorted, oldest)]
        self._crowds -= its_crowd

    def state(self) -> list[tuple[float, int]]:
        """Scores and crowds in order of arrival: added to an empty reference of the same rate, they make this one."""
        return list(self._arrived)

    def p_value(self, score: float, crowd: int | None = None) -> float:
        """The share of scores at least as large, this one included; at most 1."""
        larger = len(self._sorted) - bisect_left(self._sorted, score)
        return min(1.0, (1 + larger) / (len(self._sorted) + 1) * self._growth(crowd))

    def critical(self, crowd: int | None = None) -> float:
        """The score above which p-values are at most `rate`; infinite while there are not enough."""
        alarms = floor(self.rate / self._growth(crowd) * (len(self._sorted) + 1) + 1e-9)
        return self._sorted[-min(alarms, len(self._sorted))] if self.suffices and alarms else inf

    def _growth(self, crowd: int | None) -> float:
        return crowd * len(self._sorted) / self._crowds if crowd and self._crowds else 1.0
