"""The last minute in a few numbers."""

from __future__ import annotations

from collections import deque
from math import inf


class RecentMaximum:
    """The largest value of the last `seconds`, give or take a tenth of that; 0.0 when there was none above it."""

    def __init__(self, seconds: float = 60.0, parts: int = 10) -> None:
        self._part = seconds / parts
        self._seconds = seconds
        self._parts: deque[tuple[float, float]] = deque()  # beginning, largest

    def note(self, value: float, now: float) -> None:
        """`now`: seconds of any clock that never jumps."""
        begun, largest = self._parts[-1] if self._parts else (-inf, 0.0)
        if now - begun < self._part:
            if value > largest:
                self._parts[-1] = (begun, value)
        else:
            self._parts.append((now, value))
            self._drop(now)

    def value(self, now: float) -> float:
        self._drop(now)
        return max((0.0, *(largest for _, largest in self._parts)))

    def _drop(self, now: float) -> None:
        while self._parts and now - self._parts[0][0] > self._seconds:
            self._parts.popleft()
