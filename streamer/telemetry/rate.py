"""How fast a counter grows."""

from __future__ import annotations

from collections import deque


class Rate:
    """Per second, over the last `seconds` or so. `note` the counter's value now and then."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._seen: deque[tuple[float, float]] = deque()  # when, value

    def note(self, value: float, now: float) -> None:
        """`now`: seconds of any clock that never jumps."""
        if self._seen and now - self._seen[-1][0] < self._seconds / 20:
            return
        self._seen.append((now, value))
        # The first one stays as old as the period that it is the beginning of.
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._seconds:
            self._seen.popleft()

    def per_second(self) -> float:
        """0.0 before it has been seen twice."""
        if len(self._seen) < 2:
            return 0.0
        (begun, before), (ended, after) = self._seen[0], self._seen[-1]
        return max(0.0, (after - before) / (ended - begun))
