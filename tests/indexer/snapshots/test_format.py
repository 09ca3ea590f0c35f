"""Snapshots: whoever goes on from one goes on as if nothing had been; whatever is wrong with one is noticed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.indexer.index import basis, rotation
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.snapshots import format as snapshot_format
from streamer.indexer.snapshots.format import Header, SnapshotReader, TopicBounds, UnusableSnapshot, check, encode
from streamer.indexer.verdicts import anomalies, calibration, content, form
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from tests.support.examples import examples
from tests.support.snapshots import DIMENSIONS, FACTS, P0, P1, cut, header_of, new_judge, stream


@pytest.fixture(autouse=True)
def soon_warmed_up() -> Iterator[None]:
    """All of the judge's stages, within a stream that a test can afford."""
    with (
        patch.object(content, "FEWEST", 4),
        patch.object(form, "FEWEST", 8),
        patch.object(anomalies, "_SCORES", 8),
        patch.object(calibration, "_FEWEST", 8),
        patch.object(snapshot_format, "_PIECE", 4 * DIMENSIONS * 5),
        patch.object(rotation, "_enough", lambda _: 40),
        patch.object(basis, "_WORTHWHILE", np.inf),
    ):
        yield


def saved(judge: Judge) -> bytes:
    return b"".join(encode(cut(judge)))


def load(data: bytes, judge: Judge) -> SnapshotReader:
    reader = SnapshotReader(io.BytesIO(data).read, len(data))
    reader.rebuild(judge)
    return reader


def remembered(judge: Judge) -> Mapping[str, Any]:
    view = judge.index.read_view()
    vectors = view.next_vectors(len(view.ids))
    return {
        "ids": view.ids,
        "notes": view.payloads.notes.tobytes(),
        "payloads": [view.payloads[i] for i in range(len(view.ids))],
        "times": view.times.tolist(),
        "vectors": vectors.tobytes(),
        "axes": None if (axes := view.rotation.basis) is None else (axes.axes.tobytes(), axes.leading),
        "final": view.rotation.final,
        "state": orjson.dumps(judge.state()[0] | {"unjudged": sorted(judge._groups.state()["unjudged"])}),
        "recent": judge.state()[1].tobytes(),
    }


POLICIES = st.builds(
    VerdictPolicy,
    near_duplicate_similarity=st.sampled_from(["auto", 0.97]),
    neighbors=st.integers(1, 4),
    false_alarm_rate=st.sampled_from([0.05, 0.3]),
    window=st.sampled_from([None, 60_000]),
    near_duplicate_numbers=st.sampled_from(["matter", "ignore"]),
)


@pytest.mark.slow
@given(
    st.integers(0, 2**32 - 1),
    POLICIES,
    st.sampled_from([20, 100, 1000]),
    st.integers(0, 150),
    st.integers(0, 100),
    st.integers(1, 70),
)
@settings(max_examples=examples(15))
def test_whoever_is_loaded_goes_on_like_the_one_that_was_saved(
    seed: int, policy: VerdictPolicy, capacity: int, before: int, restored: int, size: int
) -> None:
    events = stream(seed, before + restored + 120)
    rng = np.random.default_rng(seed)
    one = new_judge(policy, capacity)
    one.restore(events[:restored])
    one.judge(events[restored : restored + before])
    for event in events[:restored]:
        if rng.random() < 0.1:
            one.forget(event.id)
    data = saved(one)
    other = new_judge(policy, capacity)
    assert load(data, other).header == header_of(one)
    assert remembered(other) == remembered(one)
    rest = events[restored + before :]
    for start in range(0, len(rest), size):
        assert one.judge(rest[start : start + size]) == other.judge(rest[start : start + size])
        assert one.forget(rest[start].id) == other.forget(rest[start].id)
        assert one.thresholds() == other.thresholds()
    assert remembered(other) == remembered(one)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 64, 100, 1000]), st.lists(st.integers(0, 80), max_size=60))
@settings(max_examples=examples(15))
def test_what_is_written_is_of_one_moment_whatever_happens_meanwhile(seed: int, capacity: int, pace: list[int]) -> None:
    events = stream(seed, 151 + sum(pace))
    judge = new_judge(VerdictPolicy(), capacity)
    judge.judge(events[:150])
    before, moment = remembered(judge), cut(judge)
    pieces, at = encode(moment), 150
    data = next(pieces)
    for count in pace:
        judge.judge(events[at : at + count])
        judge.forget(events[at].id)
        at += count
        data += next(pieces, b"")
    other = new_judge(VerdictPolicy(), capacity)
    load(data + b"".join(pieces), other)
    assert remembered(other) == before


@pytest.fixture(scope="module")
def whole() -> bytes:
    with patch.object(rotation, "_enough", lambda _: 20), patch.object(basis, "_WORTHWHILE", np.inf):
        judge = Judge(VectorIndex(DIMENSIONS, 100), VerdictPolicy())
        judge.judge(stream(1, 30))
    assert judge.index.read_view().rotation.basis is not None
    with patch.object(snapshot_format, "_PIECE", 4 * DIMENSIONS * 7):
        return saved(judge)


def refused(data: bytes) -> str:
    with pytest.raises(UnusableSnapshot) as caught:
        load(data, Judge(VectorIndex(DIMENSIONS, 100), VerdictPolicy()))
    return str(caught.value)


def test_cut_short_anywhere_it_is_refused(whole: bytes) -> None:
    load(whole, Judge(VectorIndex(DIMENSIONS, 100), VerdictPolicy()))
    for length in range(0, len(whole), 7):
        assert "cut short" in refused(whole[:length])
    assert "cut short" in refused(whole[:-1])


def test_a_file_that_shrinks_while_it_is_read_is_refused(whole: bytes) -> None:
    with pytest.raises(UnusableSnapshot, match="cut short"):
        SnapshotReader(io.BytesIO(whole[:100]).read, len(whole))


def test_longer_than_it_was_it_is_refused(whole: bytes) -> None:
    assert "does not end" in refused(whole + b"\0")


@given(st.data())
@settings(max_examples=examples(300))
def test_a_flipped_bit_anywhere_is_noticed(whole: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    assert refused(bytes(damaged))


@pytest.mark.parametrize("where", ["first", "second", "last"])
def test_frames_that_were_exchanged_are_noticed(whole: bytes, where: str) -> None:
    starts = [len(snapshot_format.MAGIC)]
    while starts[-1] < len(whole):
        length = int.from_bytes(whole[starts[-1] : starts[-1] + 8], "little")
        starts.append(starts[-1] + 8 + length + 16)
    frames = [whole[a:b] for a, b in pairwise(starts)]
    assert len(frames) > 5
    i = {"first": 0, "second": 1, "last": len(frames) - 2}[where]
    frames[i], frames[i + 1] = frames[i + 1], frames[i]
    assert "damaged" in refused(snapshot_format.MAGIC + b"".join(frames))
    del frames[i]
    assert refused(snapshot_format.MAGIC + b"".join(frames))


def test_what_is_something_else_is_refused_by_name(whole: bytes) -> None:
    assert refused(b"SQLite format 3\0" + whole) == "it is not a snapshot of an index"
    judge = new_judge(VerdictPolicy(), 100)
    with patch.object(snapshot_format, "VERSION", 8):
        newer = saved(judge)
    assert refused(newer) == "its format has version 8, but ours is 7"
    for understood in (5, 6):
        with patch.object(snapshot_format, "VERSION", understood):
            older = saved(judge)
        assert load(older, new_judge(VerdictPolicy(), 100)).header == header_of(judge)
    with patch.object(Judge, "state", lambda self: ({"another": "version"}, np.zeros((0, DIMENSIONS), np.float32))):
        unclear = saved(judge)
    assert "cannot be understood: KeyError" in refused(unclear)


BOUNDS = TopicBounds(beginning_offsets={P0: 5, P1: 0}, end_offsets={P0: 20, P1: 9}, committed={P0: 12, P1: 3})


def judged_unfit(header: Header, bounds: TopicBounds = BOUNDS, **facts: Any) -> str:
    with pytest.raises(UnusableSnapshot) as caught:
        check(header, FACTS | facts, bounds, age=50.0, most=3600.0)
    return str(caught.value)


def test_foreign_ones_are_refused_by_name() -> None:
    header = Header(facts=FACTS, offsets={P0: 12, P1: 0}, read_at=0, vectors=3)
    check(header, FACTS, BOUNDS, age=50, most=3600)
    assert judged_unfit(header, space="ba9876543210") == "its space is 0123456789ab, but here it is ba9876543210"
    assert (
        judged_unfit(header, BOUNDS, **{"index.window_seconds": 60.0})
        == "its index.window_seconds is None, but here it is 60.0"
    )
    assert judged_unfit(header, cluster="c") == "its cluster is None, but here it is c"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: replace(b, end_offsets={P0: 20}), "it goes on at vectors/1/2, but that partition is gone"),
        (lambda b: replace(b, end_offsets={P0: 11, P1: 9}), "vectors/0/12, but that partition holds offsets 5 to 11"),
        (
            lambda b: replace(b, beginning_offsets={P0: 13, P1: 0}),
            "vectors/0/12, but that partition holds offsets 13 to 20",
        ),
        (lambda b: replace(b, committed={P0: 11, P1: 3}), "vectors/0/12, but verdicts are committed up to 11 only"),
        (lambda b: replace(b, committed={P0: 12}), "vectors/1/2, but verdicts are committed up to 0 only"),
    ],
)  # fmt: skip
def test_offsets_that_do_not_fit_the_topic_are_refused(
    change: Callable[[TopicBounds], TopicBounds], reason: str
) -> None:
    header = Header(facts=FACTS, offsets={P0: 12, P1: 2}, read_at=0, vectors=3)
    check(header, FACTS, BOUNDS, age=50, most=3600)
    assert reason in judged_unfit(header, change(BOUNDS))


def test_a_partition_of_which_nothing_was_read_needs_no_commit() -> None:
    header = Header(facts=FACTS, offsets={P0: 5, P1: 0}, read_at=0, vectors=0)
    check(header, FACTS, replace(BOUNDS, committed={}), age=0, most=3600)


def test_one_older_than_the_tombstones_is_refused() -> None:
    header = Header(facts=FACTS, offsets={}, read_at=0, vectors=3)
    with pytest.raises(UnusableSnapshot, match=r"it is 2.0 hours old, but the topic may keep deletions for 1.0 only"):
        check(header, FACTS, BOUNDS, age=7200, most=3600)
