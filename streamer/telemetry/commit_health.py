"""Whether offsets can be committed, since when not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamer.telemetry.waiting import Waiting

LASTING_SECONDS: Final = 10.0  # one that fails now and then is made good by the next, and nobody need know
UNANSWERED: Final = "the brokers have not answered yet"


@dataclass(frozen=True, slots=True)
class CommitFailure:
    """`since`: seconds since the epoch, of the first attempt since the last success."""

    reason: str
    since: float


class CommitHealth:
    """Fed with every attempt to commit. Times are seconds, `now` of a clock that never jumps, `wall` since the
    epoch."""

    def __init__(self) -> None:
        self._begun: tuple[float, float] | None = None  # of the first attempt that has not been made good
        self._reason: str | None = None

    def begins(self, now: float, wall: float) -> None:
        if self._begun is None:
            self._begun = now, wall

    def failed(self, reason: str) -> None:
        self._reason = reason

    def succeeded(self) -> None:
        """Or there is nothing left to commit."""
        self._begun = self._reason = None

    def failure(self, now: float) -> CommitFailure | None:
        """At once where the reason is known; without an answer only after a while."""
        if self._begun is None or (self._reason is None and not self._is_lasting(now)):
            return None
        return CommitFailure(self._reason or UNANSWERED, self._begun[1])

    def lack(self, now: float) -> Waiting | None:
        """What a role does without, once that has lasted: work goes on, and is repeated after a crash."""
        failure = self.failure(now)
        if failure is None or not self._is_lasting(now):
            return None
        return Waiting("commit", f"commits: {failure.reason}", since=failure.since)

    def _is_lasting(self, now: float) -> bool:
        return self._begun is not None and now - self._begun[0] >= LASTING_SECONDS
