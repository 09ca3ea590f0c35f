"""Whether a provider has gone silent: calls are open, and nothing comes back."""

from __future__ import annotations

from typing import Final

from streamer.telemetry.recent import RecentMaximum

PATIENCE: Final = 4.0  # seconds; most services answer in one
UNKNOWN_PATIENCE: Final = 15.0  # while nobody knows how long its answers take
SLOWER: Final = 3.0  # than the slowest answer of the last ten minutes


class Silence:
    """Told of the beginning and end of every call. Times are seconds of a clock that never jumps."""

    def __init__(self) -> None:
        self._open = 0
        self._since: float | None = None  # nothing has been heard, although a call was open
        self._has_answered = False
        self._slowest = RecentMaximum(600.0)

    def begins(self, now: float) -> None:
        self._open += 1
        if self._since is None:
            self._since = now

    def answered(self, seconds: float, now: float) -> None:
        """With whatever, even an error: it is there."""
        self._has_answered = True
        self._slowest.note(seconds, now)
        self._open -= 1
        self._since = now if self._open else None

    def failed(self) -> None:
        """Without an answer; the next call will be made soon."""
        self._open -= 1

    def abandoned(self) -> None:
        """By its caller."""
        self._open -= 1
        if not self._open:
            self._since = None

    def lasts(self, now: float) -> float | None:
        """For how many seconds it has been silent; None while that is nothing unusual."""
        if self._since is None:
            return None
        silent = now - self._since
        patience = max(PATIENCE, SLOWER * self._slowest.value(now)) if self._has_answered else UNKNOWN_PATIENCE
        return silent if silent > patience else None
