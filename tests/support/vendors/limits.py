"""Rate limits enforced over a sliding window, the strictest way a service could count."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf


class SlidingWindow:
    """Admits at most `limit` units in any `seconds`. Refused requests do not count."""

    def __init__(self, limit: float, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._admitted: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def used(self, now: float) -> float:
        while self._admitted and self._admitted[0][0] <= now - self.seconds:
            self._used -= self._admitted.popleft()[1]
        return self._used

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` fits; 0 when it does, infinity when it never will."""
        excess = self.used(now) + amount - self.limit
        if excess <= 0:
            return 0.0
        for admitted, units in self._admitted:
            excess -= units
            if excess <= 0:
                return admitted + self.seconds - now
        return inf

    def admit(self, now: float, amount: float) -> None:
        self._admitted.append((now, amount))
        self._used += amount


@dataclass(frozen=True, slots=True)
class Limits:
    """Per window; infinity for none. A test shortens the minute with `window_seconds`."""

    requests: float = inf
    tokens: float = inf
    items: float = inf
    window_seconds: float = 60.0
