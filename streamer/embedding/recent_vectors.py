"""The vectors that were looked up or stored last, in memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from streamer.protocols import Embedding

# What an entry takes beside its numbers: its key, two objects, and its place in a dictionary.
_ENTRY_BYTES: Final = 400
_GENERATIONS: Final = 3  # the age of an entry is known to a third of the longest one


@dataclass(frozen=True, slots=True)
class RecentStatistics:
    """Hits since the start, and what is in memory now."""

    entries: int = field(metadata={"help": "Vectors that were used last and are in memory."})
    hits_total: int = field(metadata={"help": "Texts found among the vectors that were used last, in memory."})


class RecentVectors:
    """Entries of one space by cache key, each for at most `seconds` after it was added, all in about `max_bytes`.

    They leave in the order in which they came, half of them at a time, so that a hit writes nothing. One that is used
    all the time is added again now and then: whoever keeps it for good sees that it is used, and may have deleted it.
    """

    def __init__(self, *, dimensions: int, max_bytes: int, seconds: float) -> None:
        self._most = max(1, max_bytes // (4 * dimensions + _ENTRY_BYTES) // 2)  # of one generation
        self._period = seconds / _GENERATIONS
        self._begun = 0.0
        self._young: dict[bytes, Embedding] = {}
        self._old: dict[bytes, Embedding] = {}
        self._hits = 0

    def find(self, keys: Sequence[bytes], now: float) -> dict[bytes, Embedding]:
        """Those of the keys that are there, as cache hits. `now`: seconds of a clock that nobody sets."""
        self._age(now)
        young, old = self._young, self._old
        found = {key: young[key] for key in keys if key in young}
        if old and len(found) < len(keys):
            found |= {key: old[key] for key in keys if key in old and key not in found}
        self._hits += len(found)
        return found

    def add(self, entries: Mapping[bytes, Embedding], now: float) -> None:
        """`now`: when they were read or written."""
        self._age(now)
        keys = list(entries)[-self._most :]
        if not keys:
            return
        if len(self._young) + len(keys) > self._most:
            self._begin(now)
        # A copy, as one array: a row of somebody else's would keep all of that in memory.
        rows = np.concatenate([entries[key].vector for key in keys]).reshape(len(keys), -1)
        rows.flags.writeable = False
        for key, row in zip(keys, rows, strict=True):
            entry = entries[key]
            self._young[key] = Embedding(row, entry.tokens, entry.truncated, cache_hit=True)

    def statistics(self) -> RecentStatistics:
        return RecentStatistics(entries=len(self._young) + len(self._old), hits_total=self._hits)

    def _age(self, now: float) -> None:
        if now - self._begun >= self._period:
            is_stale = now - self._begun >= 2 * self._period  # nobody has asked for that long
            self._begin(now)
            if is_stale:
                self._old = {}

    def _begin(self, now: float) -> None:
        self._young, self._old, self._begun = {}, self._young, now
