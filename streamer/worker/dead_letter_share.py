"""Whether the worker is of any use: the share of dead letters among its latest records."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamer.core.events import DeadLetter, Outcome
from streamer.errors import DeadLetterKind

WINDOW: Final = 100  # records
NEARLY_ALL: Final = 0.9
OLD: Final = 600.0  # seconds after the last record: what has become of it says nothing of now


@dataclass(frozen=True, slots=True)
class Uselessness:
    """Nearly all of the latest records became dead letters. `kind` and `reason` are the commonest."""

    dead_letters: int
    records: int
    kind: DeadLetterKind
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.dead_letters} of the latest {self.records} records became dead letters, "
            f"mostly {self.kind}: {self.reason}"
        )


class DeadLetterShare:
    """Over a window of the latest WINDOW records; with fewer, or when the last came OLD seconds ago, nothing is said.

    `now`: seconds that only grow.
    """

    def __init__(self) -> None:
        self._latest: deque[tuple[DeadLetterKind, str] | None] = deque(maxlen=WINDOW)
        self._dead_letters = 0
        self._is_useless = False
        self._last_at = 0.0

    def add(self, outcomes: Sequence[Outcome], now: float) -> bool:
        """Note what became of more records. True when a problem begins or ends with them."""
        if now - self._last_at >= OLD:
            self._latest.clear()
            self._dead_letters, self._is_useless = 0, False
        self._last_at = now
        before = self._is_useless
        letters = [(o.kind, o.reason) if isinstance(o, DeadLetter) else None for o in outcomes]
        if not self._dead_letters and not any(letters):
            self._latest.extend(letters)
            return False
        for letter in letters:
            if len(self._latest) == WINDOW:
                self._dead_letters -= self._latest[0] is not None
            self._dead_letters += letter is not None
            self._latest.append(letter)
            self._is_useless = len(self._latest) == WINDOW and self._dead_letters >= NEARLY_ALL * WINDOW
        return self._is_useless != before

    def problem(self, now: float) -> Uselessness | None:
        """None while there are few records, or enough of them have vectors."""
        if not self._is_useless or now - self._last_at >= OLD:
            return None
        dead = [letter for letter in self._latest if letter is not None]
        kind = Counter(kind for kind, _ in dead).most_common(1)[0][0]
        reason = Counter(reason for of, reason in dead if of == kind).most_common(1)[0][0]
        return Uselessness(self._dead_letters, WINDOW, kind, reason)
