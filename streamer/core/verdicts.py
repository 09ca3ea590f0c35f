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


class NearestEvent(NamedTuple):
    """An earlier event near the judged one, and the cosine of the two: between -1 and 1, to six decimals."""

    id: str
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One event's verdict: "near_duplicate", "anomaly", "ordinary", or "warming_up" while too little has been seen.

    - `nearest`: the nearest events before it, best first; `similarity`: the cosine with the first of them, None when
      there was none.
    - `duplicate_of`: the first event of the group that this near-duplicate joins.
    - `score`: mean distance (1 - cosine) to the nearest recent events; `p_value`: share of recent ordinary events that
      are at least as far off. None while there are too few.
    - `space`: the id of the vector space; `source`: the record that held the text.
    """

    id: str
    verdict: VerdictKind
    similarity: float | None
    duplicate_of: str | None
    nearest: Sequence[NearestEvent]
    space: str
    source: TextSource | None
    score: float | None = None
    p_value: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The verdict in JSON's own types, as the verdict topic carries it: fit for `json.dumps`."""
        return {
            "id": self.id,
            "verdict": self.verdict,
            "similarity": self.similarity,
            "duplicate_of": self.duplicate_of,
            "score": self.score,
            "p_value": self.p_value,
            "nearest": [{"id": event.id, "similarity": event.similarity} for event in self.nearest],
            "space": self.space,
            "source": None if self.source is None else self.source.to_dict(),
        }


def encode_verdict(verdict: Verdict, topic: str) -> Message:
    """The verdict event: key = event id, value = JSON."""
    headers: Headers = (("content-type", JSON.encode()), ("streamer-space", verdict.space.encode()))
    if verdict.source is not None:
        headers += (("streamer-source", str(verdict.source).encode()),)
    return Message(topic, verdict.id.encode(), orjson.dumps(verdict.to_dict()), headers)


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
            nearest=[NearestEvent(event["id"], event["similarity"]) for event in document["nearest"]],
            space=document["space"],
            source=None if source is None else read_source(source),
            score=document["score"],
            p_value=document["p_value"],
        )
    except KeyError as exc:
        return Malformed(f"{exc} is missing")
    except (ValueError, TypeError) as exc:
        return Malformed(str(exc))
