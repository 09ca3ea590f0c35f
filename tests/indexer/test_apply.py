"""A batch of records against one memory: what is judged, restored, deleted and left aside, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from streamer.core.events import Record, TopicPartition
from streamer.core.sketch import SKETCH_HEADER, sketch
from streamer.core.vectors import Space
from streamer.indexer import apply
from streamer.indexer.apply import AppliedRecords, apply_records
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy

SPACE = Space(provider="p", model="m", dimensions=2)
OTHER = Space(provider="p", model="other", dimensions=2)


def record(offset: int, id: str | None, *vector: float, space: Space = SPACE) -> Record:
    headers = (
        ("content-type", b"application/octet-stream"),
        ("streamer-space", space.id.encode()),
        ("streamer-dimensions", str(len(vector)).encode()),
    )
    value = np.array(vector, "<f4").tobytes() if vector else None
    return Record(TopicPartition("vectors", 0), offset, None if id is None else id.encode(), value, 0, headers)


def with_sketch(plain: Record) -> Record:
    return replace(plain, headers=(*plain.headers, (SKETCH_HEADER, sketch(f"report {plain.offset}"))))


def absorb_all(judge: Judge, records: list[Record], *, new_from: int = 0) -> AppliedRecords:
    return apply_records(judge, SPACE, records, lambda record: record.offset >= new_from)


def test_deletions_take_effect_where_they_stand() -> None:
    judge = Judge(VectorIndex(2, 10), VerdictPolicy())
    records = [record(0, "a", 1, 0), record(1, "b", 1, 0), record(2, "a"), record(3, "x"), record(4, "c", 1, 0)]
    applied = absorb_all(judge, records)
    assert [(verdict.id, [match.id for match in verdict.nearest]) for verdict in applied.verdicts] == [
        ("a", []),
        ("b", ["a"]),
        ("c", ["b"]),
    ]
    assert applied.deletions == 1
    assert "a" not in judge.index


def test_older_records_are_remembered_without_a_verdict() -> None:
    judge = Judge(VectorIndex(2, 10), VerdictPolicy())
    applied = absorb_all(judge, [record(0, "a", 1, 0), record(1, "b", 0.8, 0.6)], new_from=1)
    assert [(verdict.id, [match.id for match in verdict.nearest]) for verdict in applied.verdicts] == [("b", ["a"])]


def test_other_spaces_and_bad_records_are_left_aside() -> None:
    judge = Judge(VectorIndex(2, 10), VerdictPolicy())
    foreign, wrong, no_key = record(0, "a", 1, 0, space=OTHER), record(1, "b", 1, 0, 0), record(2, None)
    applied = absorb_all(judge, [foreign, wrong, no_key, record(3, "c", 1, 0)])
    assert [verdict.id for verdict in applied.verdicts] == ["c"]
    assert [event.space for event in applied.foreign] == [OTHER.id]
    assert applied.malformed == [(wrong, "3 dimensions, but its space has 2"), (no_key, "a tombstone needs a key")]
    assert len(judge.index) == 1


@pytest.mark.parametrize("fewest_in_columns", [1, 9])
@pytest.mark.parametrize("is_new", [None, lambda _: True, lambda _: False])
def test_it_says_when_records_are_decoded_and_nothing_is_done_yet(
    monkeypatch: pytest.MonkeyPatch, fewest_in_columns: int, is_new: Callable[[Record], bool] | None
) -> None:
    monkeypatch.setattr(apply, "_FEWEST_IN_COLUMNS", fewest_in_columns)
    judge = Judge(VectorIndex(2, 10), VerdictPolicy())
    held: list[int] = []
    records = [with_sketch(record(0, "a", 1, 0)), with_sketch(record(1, "b", 0.8, 0.6))]
    apply_records(judge, SPACE, records, is_new, lambda: held.append(len(judge.index)))
    assert held == [0]
    assert len(judge.index) == 2
