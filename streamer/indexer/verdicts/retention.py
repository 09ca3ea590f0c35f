"""When events are too old to be remembered, told by the times of the events themselves."""

from __future__ import annotations

from typing import Final

_STEPS: Final = 64


class EventTimeRetention:
    """Follows event time; what lies a whole `window` behind it has expired. Milliseconds.

    It moves in steps of a 64th of the window, so that expiry costs little, never back, and only to a time that two
    events have reached. Times after `latest_allowed`, a little after the present, say nothing: however many events of
    the far future there are, they do not wipe out the memory.
    """

    latest_allowed: int | None = None

    def __init__(self, window: int | None) -> None:
        self.window = window
        self._step = max(1, (window or 0) // _STEPS)
        self._latest: int | None = None
        self._now: int | None = None

    @property
    def state(self) -> tuple[int | None, int | None]:
        """What it has learned; set on another one with the same window, it makes that one go on as this would."""
        return self._latest, self._now

    @state.setter
    def state(self, state: tuple[int | None, int | None]) -> None:
        self._latest, self._now = state

    def advance(self, time: int) -> int | None:
        """Take note of an event's time. The time before which all is to be forgotten, when that has moved."""
        if self.window is None or (self.latest_allowed is not None and time > self.latest_allowed):
            return None
        step = time // self._step
        reached = step if self._latest is None else min(step, self._latest)
        self._latest = step if self._latest is None else max(step, self._latest)
        if self._now is not None and reached <= self._now:
            return None
        self._now = reached
        return self._now * self._step - self.window
