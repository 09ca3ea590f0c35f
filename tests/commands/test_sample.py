"""The labels of the sample must be true, or the demo would count nonsense."""

from __future__ import annotations

from collections import Counter

import numpy as np
import orjson
import pytest

from streamer.adapters.providers.onnx import OnnxProvider
from streamer.commands.sample import EXPECT, NEAR_DUPLICATE_SIMILARITY, SampleRecord, sample_records
from streamer.core.decoding import Decoder
from streamer.core.events import DeadLetter, Event, Origin, Record, Tombstone, TopicPartition
from streamer.core.vectors import unit_rows

TP = TopicPartition("texts", 0)
RECORDS = sample_records()
EVENTS = [record for record in RECORDS if record.expectation.kind not in ("dead_letter", "tombstone")]
BY_ID = {record.key.decode(): record for record in EVENTS}


def decoded(record: SampleRecord) -> Event | Tombstone | DeadLetter:
    return Decoder().decode(Record(TP, 0, record.key, record.value, 0), Origin(TP, 0, 0))


def of_kind(kind: str) -> list[SampleRecord]:
    return [record for record in RECORDS if record.expectation.kind == kind]


def test_there_is_enough_of_everything() -> None:
    """First hour D4."""
    counts = Counter(record.expectation.kind for record in RECORDS)
    assert counts["ordinary"] >= 240
    assert counts["repeat"] == 40
    assert counts["reworded"] >= 30
    assert counts["strange"] == 8
    assert (counts["dead_letter"], counts["tombstone"]) == (3, 1)


def test_ids_are_unique_and_are_what_the_worker_takes_for_the_id() -> None:
    assert len(BY_ID) == len(EVENTS)
    assert len({record.key for record in RECORDS}) == len(RECORDS) - 1  # a deletion names its victim
    for record in EVENTS:
        event = decoded(record)
        assert isinstance(event, Event)
        assert (event.id, event.text) == (record.key.decode(), record.text)
        assert event.metadata is not None
        assert event.metadata.keys() == {"id", "channel", "from"}
        assert event.metadata["id"] == event.id


def test_texts_are_short_and_not_padded() -> None:
    for record in EVENTS:
        assert record.text == record.text.strip()
        assert 4 <= len(record.text.split()) <= 60, record.text


def test_only_repeats_repeat() -> None:
    """Every other text is there once, and a copy comes after what it copies."""
    seen: dict[str, str] = {}
    for record in EVENTS:
        original = seen.setdefault(record.text, record.key.decode())
        if record.expectation.kind == "repeat":
            assert original == record.expectation.of
        else:
            assert original == record.key.decode(), record.text
            if record.expectation.kind == "reworded":
                assert record.expectation.of in seen.values()


def test_copies_are_of_ordinary_messages_and_reworded_at_most_once() -> None:
    """Groups stay small enough to be counted pair by pair."""
    for record in [*of_kind("repeat"), *of_kind("reworded")]:
        assert record.expectation.of is not None
        assert BY_ID[record.expectation.of].expectation.kind == "ordinary"
    reworded = Counter(record.expectation.of for record in of_kind("reworded"))
    assert reworded.most_common(1)[0][1] == 1


def test_labels_are_not_published() -> None:
    for record in RECORDS:
        assert EXPECT.encode() not in (record.value or b"")
        assert b"repeat_of" not in (record.value or b"")


@pytest.mark.parametrize("kind", ["undecodable", "empty_text"])
def test_bad_records_are_bad_in_the_way_they_say(kind: str) -> None:
    (record,) = [record for record in of_kind("dead_letter") if record.expectation.of == kind]
    letter = decoded(record)
    assert isinstance(letter, DeadLetter)
    assert letter.kind == kind


def test_the_long_one_is_fine_but_for_its_length() -> None:
    (record,) = [record for record in of_kind("dead_letter") if record.expectation.of == "too_long"]
    event = decoded(record)
    assert isinstance(event, Event)
    assert len(event.text.split()) > 2_000


def test_the_deletion_follows_what_it_deletes_and_touches_no_copy() -> None:
    (deletion,) = of_kind("tombstone")
    assert isinstance(decoded(deletion), Tombstone)
    victim = BY_ID[deletion.key.decode()]
    assert RECORDS.index(victim) < RECORDS.index(deletion)
    assert victim.expectation.kind == "ordinary"
    assert victim.key.decode() not in {record.expectation.of for record in EVENTS}


def test_it_is_the_same_every_time() -> None:
    assert sample_records() == RECORDS


def test_it_is_small_enough_to_ship() -> None:
    assert sum(len(orjson.dumps(record.text)) for record in EVENTS) < 100_000


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_model_agrees_with_the_labels() -> None:
    """With room to spare: what is alike is clearly above the threshold, everything else clearly below it."""
    provider = await OnnxProvider.open(threads=1)
    try:
        answer = await provider.embed([record.text for record in EVENTS], "document")
    finally:
        await provider.aclose()
    vectors = unit_rows(answer.vectors)
    similarity = vectors @ vectors.T
    groups = np.array([record.expectation.of or record.key.decode() for record in EVENTS])
    alike = groups[:, None] == groups[None, :]
    assert similarity[alike].min() >= NEAR_DUPLICATE_SIMILARITY + 0.03
    assert similarity[~alike].max() <= NEAR_DUPLICATE_SIMILARITY - 0.1
    strange = np.array([record.expectation.kind == "strange" for record in EVENTS])
    nearest = np.where(alike, -1, similarity).max(axis=1)
    ordinary = ~strange & np.array([record.expectation.kind == "ordinary" for record in EVENTS])
    # What is out of place is farther from everything than 99 % of what is not.
    assert nearest[strange].max() < np.quantile(nearest[ordinary], 0.01)
