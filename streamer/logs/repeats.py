"""Which log lines repeat one another: the first is told at once, the others are counted and summed up now and then."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_DETAILS: Final = 20  # of one group, told apart at the same time


@dataclass(frozen=True, slots=True)
class Repeated(Generic[T]):
    """`count` lines that were not told. `last`: the latest of them."""

    last: T
    count: int


@dataclass(slots=True)
class _Seen(Generic[T]):
    since: float
    last: T
    count: int = 0


class Repeats(Generic[T]):
    """Decides about lines of type T. Lines with equal group and detail repeat one another.

    `interval`: seconds between two summaries. A group tells at most `max_details` details apart at the same time; all
    beyond them repeat one another, so that a reason which varies in an unforeseen way cannot flood the log.
    """

    def __init__(self, interval: float = 5.0, *, max_details: int = MAX_DETAILS) -> None:
        self._interval = interval
        self._max_details = max_details
        self._groups: dict[Hashable, dict[Hashable, _Seen[T]]] = {}

    def is_first(self, group: Hashable, detail: Hashable, line: T, now: float) -> bool:
        """Whether to tell this line now; otherwise it is counted."""
        details = self._groups.setdefault(group, {})
        if detail not in details and len(details) >= self._max_details:
            detail = None
        seen = details.get(detail)
        if seen is None or (not seen.count and now - seen.since >= self._interval):
            details[detail] = _Seen(now, line)
            return True
        seen.count += 1
        seen.last = line
        return False

    def due(self, now: float) -> list[Repeated[T]]:
        """Summaries of what was counted for `interval` seconds. What has not repeated in that time is forgotten."""
        return self._take(now - self._interval, now)

    def rest(self) -> list[Repeated[T]]:
        """Summaries of all that was counted and not told yet; for the end."""
        return self._take(float("inf"), 0.0)

    def _take(self, until: float, now: float) -> list[Repeated[T]]:
        found: list[Repeated[T]] = []
        for group, details in list(self._groups.items()):
            for detail, seen in list(details.items()):
                if seen.since > until:
                    continue
                if seen.count:
                    found.append(Repeated(seen.last, seen.count))
                    details[detail] = _Seen(now, seen.last)
                else:
                    del details[detail]
            if not details:
                del self._groups[group]
        return found

    def pending(self) -> bool:
        """Whether anything is remembered: a summary may become due."""
        return bool(self._groups)
