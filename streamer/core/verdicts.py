"""Verdicts and their wire format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import orjson

from streamer.core.events import Headers, Message, Record
from streamer.core.reading import Unreadable, read_json
from streamer.core.vector_events import JSON, Malformed, TextSource, read_source
from streamer.errors import DeadLetterKind

VerdictKind: TypeAlias = Literal["near_duplicate", "anomaly", "ordinary", "warming_up"]
Reason: TypeAlias = Literal["content", "form", "both"]


class Match(NamedTuple):
    """A remembered vector and its cosine with the query: between -1 and 1, to six decimals.

    `payload` and `note`: what was remembered along with the vector.
    """

    id: str
    similarity: float
    payload: Any = None
    note: tuple[int, float, float] = (0, 0.0, 0.0)


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
    - `score`: how unusual the event is, in content and form together; larger is stranger. `p_value`: share of ordinary
      events that are at least as unusual; `content_p_value` and `form_p_value`: in content alone and in form alone.
      None while there are too few events, and for the form of an event that came without one.
    - `reason`: what makes an anomaly one. `form_reason`: what stands out in its form, in words; for people.
    - `events_missing`: of an event that came while warming up, how many more it takes.
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
    content_p_value: float | None = None
    form_p_value: float | None = None
    reason: Reason | None = None
    form_reason: str | None = None
    events_missing: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The verdict in JSON's own types, as the verdict topic carries it: fit for `json.dumps`."""
        return {
            "id": self.id,
            "verdict": self.verdict,
            "similarity": self.similarity,
            "duplicate_of": self.duplicate_of,
            "score": self.score,
            "p_value": self.p_value,
            "content_p_value": self.content_p_value,
            "form_p_value": self.form_p_value,
            "reason": self.reason,
            "form_reason": self.form_reason,
            "events_missing": self.events_missing,
            "nearest": [{"id": event.id, "similarity": event.similarity} for event in self.nearest],
            "space": self.space,
            "source": None if self.source is None else self.source.to_dict(),
        }


def encode_verdict(verdict: Verdict, topic: str, context: Headers = ()) -> Message:
    """The verdict event: key = event id, value = JSON. Where it is refused as too large it leaves without `nearest`.
    `context`: headers with the trace that it belongs to."""
    headers: Headers = (*context, ("content-type", JSON.encode()), ("streamer-space", verdict.space.encode()))
    if verdict.source is not None:
        headers += (("streamer-source", str(verdict.source).encode()),)

    def without_nearest(_kind: DeadLetterKind, _reason: str) -> Message:
        value = orjson.dumps(replace(verdict, nearest=()).to_dict())
        return Message(topic, verdict.id.encode(), value, headers)

    value = orjson.dumps(verdict.to_dict())
    return Message(topic, verdict.id.encode(), value, headers, instead=without_nearest if verdict.nearest else None)


def decode_verdict(record: Record) -> Verdict | Malformed:
    """What a record of the verdict topic says. Never raises."""
    if record.unreadable is not None:
        return Malformed(record.unreadable)
    if record.value is None:
        return Malformed("a verdict is never null")
    return parse_verdict(record.value)


def parse_verdict(value: bytes) -> Verdict | Malformed:
    """A verdict's JSON. Never raises."""
    try:
        document = read_json(value)
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
            # Verdicts of earlier releases lack these.
            content_p_value=document.get("content_p_value"),
            form_p_value=document.get("form_p_value"),
            reason=document.get("reason"),
            form_reason=document.get("form_reason"),
            events_missing=document.get("events_missing"),
        )
    except KeyError as exc:
        return Malformed(f"{exc} is missing")
    except (Unreadable, ValueError, TypeError, OverflowError) as exc:
        return Malformed(str(exc))
