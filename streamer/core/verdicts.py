"""Verdicts and their wire format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import orjson

from streamer.core.events import Headers, Message, Record
from streamer.core.vector_events import JSON, Malformed, TextSource, read_source

VerdictKind: TypeAlias = Literal["near_duplicate", "anomaly", "ordinary", "warming_up"]


class Match(NamedTuple):
    """A remembered vector and its cosine with the query: between -1 and 1, to six decimals.

    `payload`: what was remembered along with the vector.
    """

    id: str
    similarity: float
    payload: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One event's verdict.

    `similarity`: cosine with the nearest event before it, None when there was none. `duplicate_of`: the first event
    of the group that this near-duplicate joins. `score`: mean distance (1 - cosine) to the nearest of the recent
    events; `p_value`: share of recent ordinary events that are at least as far off. None while there are too few.
    """

    id: str
    verdict: VerdictKind
    similarity: float | None
    duplicate_of: str | None
    nearest: Sequence[Match]
    space: str
    source: TextSource | None
    score: float | None = None
    p_value: float | None = None


def encode_verdict(verdict: Verdict, topic: str) -> Message:
    """The verdict event: key = event id, value = JSON."""
    source = verdict.source
    document: dict[str, Any] = {
        "id": verdict.id,
        "verdict": verdict.verdict,
        "similarity": verdict.similarity,
        "duplicate_of": verdict.duplicate_of,
        "score": verdict.score,
        "p_value": verdict.p_value,
        "nearest": [{"id": match.id, "similarity": match.similarity} for match in verdict.nearest],
        "space": verdict.space,
        "source": None
        if source is None
        else {
            "topic": source.tp.topic,
            "partition": source.tp.partition,
            "offset": source.offset,
            "timestamp": source.timestamp,
        },
    }
    headers: Headers = (("content-type", JSON.encode()), ("streamer-space", verdict.space.encode()))
    if source is not None:
        headers += (("streamer-source", str(source).encode()),)
    return Message(topic, verdict.id.encode(), orjson.dumps(document), headers)


def decode_verdict(record: Record) -> Verdict | Malformed:
    """What a record of the verdict topic says. Never raises."""
    if record.value is None:
        return Malformed("a verdict is never null")
    return parse_verdict(record.value)


def parse_verdict(value: bytes) -> Verdict | Malformed:
    """A verdict's JSON. Never raises."""
    try:
        document = orjson.loads(value)
        source = document["source"]
        if document["verdict"] not in get_args(VerdictKind):
            raise ValueError(f"unknown verdict {document['verdict']!r}")
        return Verdict(
            id=document["id"],
            verdict=document["verdict"],
            similarity=document["similarity"],
            duplicate_of=document["duplicate_of"],
            nearest=[Match(match["id"], match["similarity"]) for match in document["nearest"]],
            space=document["space"],
            source=None if source is None else read_source(source),
            score=document["score"],
            p_value=document["p_value"],
        )
    except KeyError as exc:
        return Malformed(f"{exc} is missing")
    except (ValueError, TypeError) as exc:
        return Malformed(str(exc))
