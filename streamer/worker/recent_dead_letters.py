"""The latest dead letters, for whoever wants to see why without reading the topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from streamer.core.events import DeadLetter
from streamer.errors import without_quotes

_MOST: Final = 50
_LONGEST_REASON: Final = 300  # characters
_LONGEST_KEY: Final = 100


class RecentDeadLetters:
    """Newest first. The records themselves are in the topic only: what is here may be shown."""

    def __init__(self, most: int = _MOST) -> None:
        self._kept: deque[Mapping[str, Any]] = deque(maxlen=most)

    def add(self, letter: DeadLetter, at: float) -> None:
        """`at`: seconds since the epoch."""
        record = letter.record
        self._kept.appendleft(
            {
                "at": int(at * 1000),
                "kind": letter.kind,
                "reason": without_quotes(letter.reason)[:_LONGEST_REASON],
                "source": f"{record.tp}/{record.offset}",
                "key": None if record.key is None else record.key.decode(errors="replace")[:_LONGEST_KEY],
            }
        )

    def list(self) -> list[Mapping[str, Any]]:
        return list(self._kept)
