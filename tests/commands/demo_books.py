"""Records of a small demo, and the books of it."""

from __future__ import annotations

import orjson

from streamer.commands.demo_ledger import Ledger
from streamer.commands.sample import Expectation, SampleRecord
from streamer.core.events import Record, TopicPartition

TP = TopicPartition("any", 0)


def sample(id: str, kind: str = "ordinary", of: str | None = None) -> SampleRecord:
    value = None if kind == "tombstone" else b"{}"
    return SampleRecord(id.encode(), value, Expectation(kind, of), f"text of {id}")  # type: ignore[arg-type]


def vector(id: str, *, hit: bool = False) -> Record:
    return Record(TP, 0, id.encode(), orjson.dumps({"id": id, "cache_hit": hit}), 0)


def deletion(id: str) -> Record:
    return Record(TP, 0, id.encode(), None, 0)


def dead_letter(id: str, kind: str) -> Record:
    return Record(TP, 0, id.encode(), b"{", 0, (("streamer-error-kind", kind.encode()),))


def verdict(id: str, of: str | None = None) -> Record:
    kind = "ordinary" if of is None else "near_duplicate"
    body = {"id": id, "verdict": kind, "similarity": 0.93, "duplicate_of": of}
    return Record(TP, 0, id.encode(), orjson.dumps(body), 0)


def ledger_of(*records: SampleRecord) -> Ledger:
    ledger = Ledger(records)
    for record in records:
        ledger.note_published(record, 0.0)
    return ledger


FEW = (sample("a"), sample("b", "repeat", "a"), sample("bad", "dead_letter", "empty_text"), sample("a", "tombstone"))


def balanced() -> Ledger:
    ledger = ledger_of(*FEW)
    ledger.note_vector(vector("a"), 0.010)
    ledger.note_vector(vector("b", hit=True), 0.030)
    ledger.note_dead_letter(dead_letter("bad", "empty_text"), 0.040)
    ledger.note_vector(deletion("a"), 2.0)
    ledger.note_verdict(verdict("a"), 0.1)
    ledger.note_verdict(verdict("b", "a"), 0.2)
    return ledger
