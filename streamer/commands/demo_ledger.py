"""The demo's books: what was published, what came of it and how long that took. Times are passed in, in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import orjson

from streamer.commands.sample import SampleRecord
from streamer.core.events import Record

_Key: TypeAlias = tuple[bytes | None, bool]  # a record's key, and whether it deletes


@dataclass(frozen=True, slots=True)
class Sighting:
    """A verdict with the texts it is about. `like` and `similarity`: of a near-duplicate, and what it is like.
    `reason`: what makes an anomaly one, in words."""

    text: str
    like: str | None = None
    similarity: float | None = None
    reason: str | None = None


_REASONS = {
    "content": "nothing before says such a thing",
    "form": "nothing before is written like this",
    "both": "nothing before says such a thing, or is written like this",
}


@dataclass(frozen=True, slots=True)
class Found:
    """How many of the planted ones were found."""

    found: int
    planted: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from just before publishing to receipt; None when nothing was received."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """`out_of_place`: messages that do not belong here, called anomalies. `other_anomalies`: ordinary ones that are.
    `other_near_duplicates`: verdicts that link two messages which have nothing to do with each other."""

    events: int
    vectors: int
    tombstones: int
    dead_letters: Counter[str]
    cache_hits: int
    verdicts: int
    repeats: Found
    rewordings: Found
    out_of_place: Found
    other_anomalies: int
    other_near_duplicates: int
    events_per_second: float
    to_vector: Latency | None
    to_verdict: Latency | None


class Ledger:
    """Takes notes while the sample streams through. An outcome is booked under the key of the record it came of."""

    def __init__(self, records: Sequence[SampleRecord]) -> None:
        self._records = records
        self._texts = {record.key.decode(): record.text for record in records if record.value is not None}
        self._copies = {
            record.key.decode(): record.expectation
            for record in records
            if record.expectation.kind in ("repeat", "reworded")
        }
        self._published: dict[_Key, float] = {}
        self._outcomes: Counter[_Key] = Counter()
        self._dead_letters: Counter[str] = Counter()
        self._cache_hits = 0
        self._verdicts: Counter[str] = Counter()
        self._duplicates: dict[str, str] = {}
        self._strange = {record.key.decode() for record in records if record.expectation.kind == "strange"}
        self._anomalies: set[str] = set()
        self._to_vector: list[float] = []
        self._to_verdict: list[float] = []
        self._last = 0.0

    @property
    def planned(self) -> int:
        return len(self._records)

    @property
    def expected_vectors(self) -> int:
        return sum(record.expectation.kind not in ("dead_letter", "tombstone") for record in self._records)

    @property
    def published(self) -> int:
        return len(self._published)

    @property
    def vectors(self) -> int:
        return self._outcomes.total() - self.tombstones - self._dead_letters.total()

    @property
    def tombstones(self) -> int:
        return sum(count for (_, deleted), count in self._outcomes.items() if deleted)

    @property
    def verdicts(self) -> int:
        return self._verdicts.total()

    def note_published(self, record: SampleRecord, now: float) -> None:
        self._published[record.key, record.value is None] = now

    def note_vector(self, record: Record, now: float) -> None:
        """A record of the vector topic."""
        self._book(record, now)
        if record.value is not None:
            self._cache_hits += orjson.loads(record.value)["cache_hit"]
            self._to_vector += self._since_published(record.key, now)

    def note_dead_letter(self, record: Record, now: float) -> None:
        self._book(record, now)
        self._dead_letters[dict(record.headers)["streamer-error-kind"].decode()] += 1

    def note_verdict(self, record: Record, now: float) -> Sighting | None:
        """A record of the verdict topic; None for one without a text of ours."""
        if record.value is None:
            return None
        verdict = orjson.loads(record.value)
        id, first = verdict["id"], verdict["duplicate_of"]
        self._verdicts[id] += 1
        self._to_verdict += self._since_published(record.key, now)
        text = self._texts.get(id)
        if verdict["verdict"] == "anomaly":
            self._anomalies.add(id)
            reason = verdict.get("form_reason") or _REASONS.get(verdict.get("reason"), "nothing before is like it")
            return None if text is None else Sighting(text, reason=reason)
        if verdict["verdict"] != "near_duplicate":
            return None if text is None else Sighting(text)
        self._duplicates[id] = first
        return None if text is None else Sighting(text, self._texts.get(first, first), verdict["similarity"])

    def complete(self) -> bool:
        """Every record has its outcome, and every vector its verdict."""
        return self.published == self.planned and not self._missing() and self._verdicts.total() >= self.vectors

    def errors(self) -> list[str]:
        """Where the counts do not add up: events in = vectors + tombstones + dead letters, each event once."""
        twice = [key for key, count in self._outcomes.items() if count > 1]
        foreign = [key for key in self._outcomes if key not in self._published]
        unjudged = self.vectors - self.verdicts
        return [
            *_listed("without an outcome", [key for key, _ in self._missing()]),
            *_listed("with more than one outcome", [key for key, _ in twice]),
            *_listed("never published, yet with an outcome", [key for key, _ in foreign]),
            *([f"{unjudged} vectors without a verdict"] if unjudged > 0 else []),
        ]

    def summary(self) -> Summary:
        seconds = self._last - min(self._published.values(), default=0.0)
        return Summary(
            events=self.published,
            vectors=self.vectors,
            tombstones=self.tombstones,
            dead_letters=self._dead_letters,
            cache_hits=self._cache_hits,
            verdicts=self.verdicts,
            repeats=self._found("repeat"),
            rewordings=self._found("reworded"),
            out_of_place=Found(len(self._anomalies & self._strange), len(self._strange)),
            other_anomalies=len(self._anomalies - self._strange),
            other_near_duplicates=sum(self._first(id) != self._first(first) for id, first in self._duplicates.items()),
            events_per_second=self._outcomes.total() / seconds if seconds > 0 else 0.0,
            to_vector=_latency(self._to_vector),
            to_verdict=_latency(self._to_verdict),
        )

    def _book(self, record: Record, now: float) -> None:
        self._outcomes[record.key, record.value is None] += 1
        self._last = now

    def _missing(self) -> list[_Key]:
        return [key for key in self._published if key not in self._outcomes]

    def _since_published(self, key: bytes | None, now: float) -> list[float]:
        then = self._published.get((key, False))
        return [] if then is None else [now - then]

    def _first(self, id: str) -> str:
        copy = self._copies.get(id)
        return copy.of if copy and copy.of else id

    def _found(self, kind: Literal["repeat", "reworded"]) -> Found:
        """A copy is found when it is linked to its family."""
        planted = {id for id, copy in self._copies.items() if copy.kind == kind}
        linked = {id for id, first in self._duplicates.items() if self._first(id) == self._first(first)}
        return Found(len(planted & linked), len(planted))


def _latency(seconds: Sequence[float]) -> Latency | None:
    if not seconds:
        return None
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return Latency(float(p50), float(p95))


def _listed(what: str, keys: Sequence[bytes | None]) -> list[str]:
    if not keys:
        return []
    names = [str(None) if key is None else key.decode(errors="replace") for key in keys]
    return [f"{len(keys)} events {what}: {', '.join(names[:5])}{', …' if len(keys) > 5 else ''}"]
