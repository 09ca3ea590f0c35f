"""Verdicts about nothing in particular."""

from __future__ import annotations

from streamer.core.events import TopicPartition
from streamer.core.vector_events import TextSource
from streamer.core.verdicts import NearestEvent, Verdict, VerdictKind


def verdict(id: str, kind: VerdictKind = "ordinary", at: int = 0, space: str = "s") -> Verdict:
    """Of a text whose record is of `at`, in milliseconds since the epoch."""
    return Verdict(
        id=id,
        verdict=kind,
        similarity=0.5,
        duplicate_of=None,
        nearest=[NearestEvent("other", 0.5)],
        space=space,
        source=TextSource(TopicPartition("texts", 0), 7, at),
    )
