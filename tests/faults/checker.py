"""Judges a run from outside: it knows what was produced, what the topics hold now, and samples taken meanwhile.

Nothing here asks the system under test for a number. Identity is the input record's place (topic, partition, offset),
which every output names in `streamer-source`.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

Place = tuple[str, int, int]
Sight = tuple[int, Place, int]  # a record as a reader remembers it: its offset, where it comes from, its value's CRC
RightVectors = Callable[[str, list[str]], np.ndarray[Any, Any]]  # by model and texts, unit length
MOST_TOLD = 5


@dataclass(slots=True)
class Ledger:
    """What the producer noted: ids and texts before it sent them, ids again once they were acknowledged."""

    attempted: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Sample:
    """Committed offsets of the input partitions, and where the output topics ended a moment later."""

    committed: Mapping[int, int]
    ends: Mapping[tuple[str, int], int]


@dataclass(slots=True)
class Verdict:
    """`problems` is empty after a good run. `seen`: what a reader saw while it went on."""

    produced: int = 0
    outcomes: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    seen: int = 0
    samples: int = 0
    problems: list[str] = field(default_factory=list)

    def blame(self, what: str, culprits: Sequence[object]) -> None:
        if culprits:
            examples = ", ".join(str(culprit) for culprit in culprits[:MOST_TOLD])
            self.problems.append(f"{what}: {len(culprits)} ({examples})")


def check(
    ledger: Ledger,
    inputs: Iterable[Any],
    vectors: Iterable[Any],
    dead_letters: Iterable[Any],
    *,
    right_vectors: RightVectors,
    most_duplicates: int,
    samples: Iterable[Sample] = (),
    seen: Mapping[int, Sequence[Sight]] | None = None,
) -> Verdict:
    """Judge consumed records of the three topics, each in offset order per partition. `most_duplicates`: outcomes
    beyond the first of an input that the faults may have caused; `seen`: the vectors by partition, as a reader saw them
    who was there all along."""
    inputs, vectors, dead_letters = list(inputs), list(vectors), list(dead_letters)
    came_in: dict[Place, bytes | None] = {(r.topic, r.partition, r.offset): r.key for r in inputs}
    verdict = Verdict(produced=len(came_in), outcomes=len(vectors) + len(dead_letters), dead_letters=len(dead_letters))

    ids = {id.encode() for id in ledger.attempted}
    missing_inputs = sorted({id.encode() for id in ledger.acknowledged} - set(came_in.values()))
    verdict.blame("acknowledged to the producer and not in the input topic", missing_inputs)

    came_out = Counter(map(place_of, [*vectors, *dead_letters]))
    verdict.blame("lost", sorted(came_in.keys() - came_out.keys()))
    verdict.blame("invented", sorted(came_out.keys() - came_in.keys()))
    regular = {(r.topic, r.partition, r.offset) for r in inputs if fate_of(r) in (None, "vector")}
    verdict.blame("never produced", sorted(p for p in regular if came_in[p] not in ids))
    verdict.blame("against its fate", list(_against_fate(inputs, vectors, dead_letters)))
    verdict.duplicates = sum(count - 1 for count in came_out.values())
    if verdict.duplicates > most_duplicates:
        verdict.problems.append(f"{verdict.duplicates} duplicates, at most {most_duplicates} are explained")
        again = {place for place, count in came_out.items() if count > 1}
        repeated = [f"{place} at {r.topic}/{r.partition}/{r.offset}" for r in [*vectors, *dead_letters]
                    for place in [place_of(r)] if place in again]  # fmt: skip
        verdict.blame("repeated", repeated)

    outputs = [*vectors, *dead_letters]
    wrong_ids = [r.key for r in outputs if place_of(r) in regular and came_in[place_of(r)] != r.key]
    verdict.blame("under another id", wrong_ids)
    verdict.blame("out of order", list(_out_of_order(vectors)))
    verdict.blame("with a wrong vector", list(_wrong_vectors(ledger, vectors, right_vectors)))
    outcomes = [(place_of(record), record) for record in [*vectors, *dead_letters]]
    for sample in samples:
        verdict.samples += 1
        verdict.blame("committed before their outcome was there", _early(sample, came_in, outcomes))
    if seen is not None:
        verdict.seen = sum(map(len, seen.values()))
        _compare(verdict, seen, vectors)
    return verdict


def sight_of(record: Any) -> Sight:
    return record.offset, place_of(record), zlib.crc32(record.value or b"")


def place_of(record: Any) -> Place:
    topic, partition, offset = dict(record.headers)["streamer-source"].decode().rsplit("/", 2)
    return topic, int(partition), int(offset)


def fate_of(record: Any) -> str | None:
    """What the producer of a hostile record says has to become of it; None of an ordinary one."""
    return dict(record.headers).get("fate", b"").decode() or None


def _against_fate(inputs: Sequence[Any], vectors: Sequence[Any], dead_letters: Sequence[Any]) -> Iterable[str]:
    became: dict[Place, set[str]] = defaultdict(set)
    for record in vectors:
        became[place_of(record)].add("tombstone" if record.value is None else "vector")
    for record in dead_letters:
        became[place_of(record)].add("dead letter")
    for record in inputs:
        place, fate = (record.topic, record.partition, record.offset), fate_of(record)
        found = became[place]
        right = "vector" not in found if fate == "no vector" else found <= {fate}
        if fate not in (None, "any") and not right:
            yield f"{place} {record.key!r:.50} {record.value!r:.100}: {' and '.join(sorted(found))}, not {fate}"


def _out_of_order(records: Iterable[Any]) -> Iterable[Place]:
    """Within an output partition, what one input partition sends for the first time comes in offset order; what is
    repeated after a crash goes back, and is no news."""
    highest: dict[tuple[int, str, int], int] = defaultdict(lambda: -1)
    seen: set[tuple[int, Place]] = set()
    for record in records:
        place = place_of(record)
        lane = (record.partition, place[0], place[1])
        if (record.partition, place) not in seen and place[2] < highest[lane]:
            yield place
        seen.add((record.partition, place))
        highest[lane] = max(highest[lane], place[2])


def _compare(verdict: Verdict, seen: Mapping[int, Sequence[Sight]], vectors: Iterable[Any]) -> None:
    """What was once shown to a reader stays as it was, and is all there is."""
    log: dict[int, list[Sight]] = defaultdict(list)
    for record in vectors:
        log[record.partition].append(sight_of(record))
    for partition in sorted(log.keys() | seen.keys()):
        there, shown = log[partition], list(seen.get(partition, ()))
        verdict.blame(f"shown to a reader of {partition} and not in the log", sorted(set(shown) - set(there)))
        verdict.blame(f"in the log of {partition} and never shown to a reader", sorted(set(there) - set(shown)))
        if set(shown) == set(there) and shown != there:
            verdict.problems.append(f"shown to a reader of {partition} in another order, or twice")


def _wrong_vectors(ledger: Ledger, records: Iterable[Any], right_vectors: RightVectors) -> Iterable[str]:
    by_model: dict[str, list[Any]] = defaultdict(list)
    for record in records:
        event = None if record.value is None else orjson.loads(record.value)
        if event is not None and event["id"] in ledger.attempted:
            by_model[event["model"]].append(event)
    chunks = [
        (model, events[start : start + 500])
        for model, events in by_model.items()
        for start in range(0, len(events), 500)
    ]
    for model, chunk in chunks:
        right = right_vectors(model, [ledger.attempted[event["id"]] for event in chunk])
        given = np.asarray([event["vector"] for event in chunk], np.float32)
        if given.shape != right.shape:
            yield f"shape {given.shape}"
            continue
        good = (np.abs(given - right).max(axis=1) < 1e-5) & (np.abs(np.linalg.norm(given, axis=1) - 1) < 1e-5)
        yield from (chunk[i]["id"] for i in np.flatnonzero(~good))


def _early(sample: Sample, came_in: Mapping[Place, object], outcomes: Iterable[tuple[Place, Any]]) -> list[Place]:
    there = {place for place, r in outcomes if r.offset < sample.ends.get((r.topic, r.partition), 0)}
    return sorted(place for place in came_in if place[2] < sample.committed.get(place[1], 0) and place not in there)
