"""The sample stream: messages to a parcel carrier, and for each what the demo should make of it.

`sample.jsonl` holds the texts; a line's `_expect` says how it relates to the others and is never published. Records
that such a line cannot hold (broken ones, a deletion) are added here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypeAlias

import orjson

ExpectationKind: TypeAlias = Literal["ordinary", "repeat", "reworded", "strange", "dead_letter", "tombstone"]

NEAR_DUPLICATE_SIMILARITY = 0.8  # of all-MiniLM-L6-v2: rewordings are above it, all else is far below
EXPECT = "_expect"
WITHDRAWN = "Please cancel the pickup"  # how the message begins that its sender takes back at the end
LONG_WORDS = 3_000  # several times what the model reads


@dataclass(frozen=True, slots=True)
class Expectation:
    """What should become of a record.

    `of`: for a `repeat` or `reworded` the id of the message it is like, for a `dead_letter` its kind.
    """

    kind: ExpectationKind
    of: str | None = None


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """A record to publish. `text` is what a person may be shown of it."""

    key: bytes
    value: bytes | None
    expectation: Expectation
    text: str = ""


def sample_records() -> list[SampleRecord]:
    """The whole stream, in the order in which to publish it; the same every time."""
    lines = files(__package__).joinpath("sample.jsonl").read_text("utf-8").splitlines()
    events = [orjson.loads(line) for line in lines]
    records = [_event(event) for event in events]
    withdrawn = next(record for record in records if record.text.startswith(WITHDRAWN))
    quarter = len(records) // 4
    for place, bad in zip((3 * quarter, 2 * quarter, quarter), _bad_records(events), strict=True):
        records.insert(place, bad)
    return [*records, SampleRecord(withdrawn.key, None, Expectation("tombstone"))]


def _event(event: Mapping[str, Any]) -> SampleRecord:
    published = {name: value for name, value in event.items() if name != EXPECT}
    expectation = _expectation(event.get(EXPECT, {}))
    return SampleRecord(event["id"].encode(), orjson.dumps(published), expectation, event["text"])


def _expectation(label: Mapping[str, Any]) -> Expectation:
    if "repeat_of" in label:
        return Expectation("repeat", label["repeat_of"])
    if "reworded_of" in label:
        return Expectation("reworded", label["reworded_of"])
    return Expectation("strange" if label.get("strange") else "ordinary")


def _bad_records(events: list[dict[str, Any]]) -> list[SampleRecord]:
    """What every real topic holds sooner or later, and what must not stop the stream."""
    words = " ".join(event["text"] for event in events).split()
    too_long = {"id": "bad-long", "channel": "email", "text": " ".join(words[:LONG_WORDS])}
    empty = {"id": "bad-empty", "channel": "app", "text": "  "}
    return [
        SampleRecord(b"bad-long", orjson.dumps(too_long), Expectation("dead_letter", "too_long")),
        SampleRecord(b"bad-json", b'{"id": "bad-json", "text": "The van is', Expectation("dead_letter", "undecodable")),
        SampleRecord(b"bad-empty", orjson.dumps(empty), Expectation("dead_letter", "empty_text")),
    ]
