"""When to tell of an outage: once when it begins, when its reason changes, and when it ends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

WARNING: Final = 30  # the levels of the standard library's logging
INFO: Final = 20

FLAPPING_SECONDS: Final = 60.0  # an outage that begins so soon after the last one ended is the same problem
LONGEST_SETTLE: Final = 30.0

_VARIABLE: Final = re.compile(
    r"“[^”]*(?:”|$)"  # somebody else's words, see errors.quoted
    r"|(?<!\w)'[^']*'(?!\w)"
    r'|"[^"]*"'
    # Words with a digit are offsets, times and request ids; but 500 and 429 are different matters.
    r"|(?<!\S)(?<!answered )\S*\d\S*"
)

_UNTIL: Final = re.compile(r" until \S*\d\S*?(?=:?(?:\s|$))")  # "rate limited until 05:06:07" goes on as "rate limited"


def normalized(reason: str) -> str:
    """The reason without what varies from case to case: quotations, numbers and ids."""
    return _VARIABLE.sub("…", _UNTIL.sub("", reason))


@dataclass(frozen=True, slots=True)
class Transition:
    """`seconds`: how long the outage has lasted."""

    kind: Literal["began", "changed", "ended"]
    reason: str
    seconds: float

    def line(self, part: str) -> tuple[int, str, dict[str, Any]]:
        """Level, event and facts of the log line about this part of the system."""
        seconds = round(self.seconds, 1)
        match self.kind:
            case "began":
                return WARNING, f"{part} unavailable", {"part": part, "reason": self.reason}
            case "changed":
                facts = {"part": part, "reason": self.reason, "seconds": seconds}
                return WARNING, f"{part} still unavailable, for another reason", facts
            case "ended":
                return INFO, f"{part} available again", {"part": part, "seconds": seconds}


class Outage:
    """One part of the system, observed again and again. Feed it the state; it returns what is worth a line.

    `settle`: seconds that a change of state must last. It doubles for the end of an outage each time that the next one
    begins within FLAPPING_SECONDS, up to LONGEST_SETTLE: a part that flaps is one long outage. For the same reason a
    reason is not told twice within FLAPPING_SECONDS.
    """

    def __init__(self, settle: float = 1.0) -> None:
        self._settle = settle
        self._seen: str | None = None  # the reason at the last look, normalized
        self._seen_since = 0.0
        self._bad_since: float | None = None
        self._began: float | None = None  # of the outage that was told
        self._told = ""
        self._told_at: dict[str, float] = {}
        self._ended_at = float("-inf")
        self._flaps = 0

    def observe(self, reason: str | None, now: float) -> Transition | None:
        """`reason`: why the part is unavailable, None while it is well. `now`: seconds of a clock that never jumps."""
        key = None if reason is None else normalized(reason)
        if key != self._seen:
            self._seen, self._seen_since = key, now
        if reason is None or key is None:
            return self._well(now)
        if self._bad_since is None:
            self._bad_since = now
        if self._began is None:
            return self._bad(reason, key, now)
        if key != self._told and now - self._seen_since >= self._settle:
            self._told = key
            told_at = self._told_at.get(key, float("-inf"))
            if now - told_at >= FLAPPING_SECONDS:
                self._told_at[key] = now
                return Transition("changed", reason, now - self._began)
        return None

    def _bad(self, reason: str, key: str, now: float) -> Transition | None:
        since = now if self._bad_since is None else self._bad_since
        if now - since < self._settle:
            return None
        self._flaps = self._flaps + 1 if since - self._ended_at < FLAPPING_SECONDS else 0
        self._began, self._told, self._told_at = since, key, {key: now}
        return Transition("began", reason, now - since)

    def _well(self, now: float) -> Transition | None:
        if self._began is None:
            self._bad_since = None
            return None
        if now - self._seen_since < min(self._settle * 2**self._flaps, LONGEST_SETTLE):
            return None
        seconds = self._seen_since - self._began
        self._began = self._bad_since = None
        self._ended_at = now
        return Transition("ended", "", seconds)
