"""What people look at: the latest verdicts with their texts, and a map of recent events.

Texts are read from the index when they are asked for. What is deleted or evicted there is shown no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from anyio import Lock, current_time
from anyio.to_thread import run_sync

from streamer.core.verdicts import Verdict, VerdictKind
from streamer.indexer.index.plane import Plane
from streamer.indexer.recent import KINDS, RecentVerdict, RecentVerdicts
from streamer.indexer.searches import Searches

_MOST_PLACED: Final = 500
_LONGEST_LABEL: Final = 120  # characters of a text on the map
_MAP_SECONDS: Final = 2.0  # for which a map is shown again


@dataclass(frozen=True, slots=True)
class StreamMap:
    """`share`: of the variance of these events that lies in the plane. `points`: oldest first."""

    share: float
    points: Sequence[Mapping[str, Any]]


class Showcase:
    """Answers at any time, while events are judged. `events_missing`: as in Judge."""

    def __init__(self, recent: RecentVerdicts, searches: Searches, events_missing: Callable[[], int]) -> None:
        self.recent = recent
        self.events_missing = events_missing
        self._searches = searches
        self._plane = Plane()
        self._turn = Lock()
        self._map: StreamMap | None = None
        self._drawn_at = self._drawn_of = -1.0

    async def verdicts(
        self, after: int, kinds: Collection[VerdictKind], limit: int
    ) -> tuple[list[RecentVerdict], Mapping[str, str]]:
        """The newest `limit` verdicts of these kinds after number `after`, newest first; and by id the texts that are
        known, of their events and of those that they name."""
        found = self.recent.after(after, kinds, limit)
        ids = {id for each in found for id in _named(each.verdict)}
        payloads = await self._searches.payloads(ids)
        return found, {id: payload.text for id, payload in payloads.items() if payload and payload.text is not None}

    async def map(self) -> StreamMap:
        """Of the latest events that are still remembered."""
        async with self._turn:
            if self._map is None or (
                self._drawn_of != self.recent.latest and current_time() >= self._drawn_at + _MAP_SECONDS
            ):
                self._drawn_of, self._drawn_at = self.recent.latest, current_time()
                self._map = await self._draw()
            return self._map

    async def _draw(self) -> StreamMap:
        latest = {each.verdict.id: each for each in reversed(self.recent.after(0, KINDS, _MOST_PLACED))}
        ids, rows = await self._searches.coordinates(list(latest))
        payloads = await self._searches.payloads(ids)
        placed, share = await run_sync(self._plane.place, rows)
        points = [
            {
                "id": id,
                "x": round(float(x), 4),
                "y": round(float(y), 4),
                "verdict": latest[id].verdict.verdict,
                "group": latest[id].verdict.duplicate_of,
                "text": _label(payloads.get(id)),
            }
            for id, (x, y) in zip(ids, placed.tolist(), strict=True)
        ]
        return StreamMap(share, points)


def _named(verdict: Verdict) -> list[str]:
    """The events whose texts show what a verdict is about."""
    nearest = [event.id for event in verdict.nearest[:1]]
    return [verdict.id, *nearest, *([verdict.duplicate_of] if verdict.duplicate_of else [])]


def _label(payload: Any) -> str | None:
    text = payload.text if payload else None
    return text if text is None or len(text) <= _LONGEST_LABEL else f"{text[:_LONGEST_LABEL]}…"
