"""Groups of near-duplicates, kept with the events in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from streamer.indexer.distant.overlay import Overlay
from streamer.stores import StoredEvent

_REMEMBERED: Final = 8_192


class DistantGroups:
    """Groups of an overlay and the store behind it. `find`: asks the store. `met`: what it need not be asked for."""

    def __init__(self, overlay: Overlay, find: Callable[[str], StoredEvent | None]) -> None:
        self.met: dict[str, StoredEvent] = {}
        self._overlay = overlay
        self._find = find
        self._found_out: dict[str, str | None] = {}  # of events that were restored and are not held here any more

    def first(self, id: str) -> str:
        if (held := self._overlay.events.get(id)) is not None:
            return held.first or id
        if id in self._found_out:
            return self._found_out[id] or id
        found = self.met.get(id) or self._find(id)
        return (found.first if found is not None else None) or id

    def is_unjudged(self, id: str) -> bool:
        if (held := self._overlay.events.get(id)) is not None:
            return not held.is_judged
        if id in self._found_out:
            return False
        found = self.met.get(id) or self._find(id)
        return found is not None and not found.is_judged

    def judged(self, id: str, first: str | None) -> None:
        if (held := self._overlay.events.get(id)) is not None:
            held.first, held.is_judged = first, True
            self._overlay.unwritten[id] = None
            return
        self._found_out[id] = first
        if len(self._found_out) > _REMEMBERED:
            del self._found_out[next(iter(self._found_out))]

    def restored(self, ids: Sequence[str]) -> None:
        """The index has inserted them as such, unless the store knew better."""
        for id in ids:
            self._found_out.pop(id, None)

    def forget(self, id: str) -> None:
        """The store forgets it with the event."""
        self._found_out.pop(id, None)

    def sweep(self, count: int, is_known: Callable[[str], bool]) -> None:
        """There is nothing to drop."""

    def state(self) -> Mapping[str, Any]:
        """The store has it all."""
        return {"firsts": {}, "unjudged": []}

    def resume(self, state: Mapping[str, Any]) -> None:
        """The store has it all."""
