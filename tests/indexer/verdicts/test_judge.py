"""Verdicts: what counts as a near-duplicate, whose, and that neither batches nor replays nor restarts change it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.core.events import TopicPartition
from streamer.core.sketch import form_of, sketch, unpack, unpack_form
from streamer.core.vector_events import TextSource, VectorEvent
from streamer.core.vectors import unit_rows
from streamer.core.verdicts import Verdict
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.verdicts import anomalies, calibration, content, form, judge
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from tests.support import indexing
from tests.support.examples import examples
from tests.support.indexing import size_of

everywhere = pytest.mark.usefixtures("backend")  # wherever the vectors are kept

Arrival = tuple[str, float]  # id, direction in degrees: the cosine of two events is that of the angle between them
NEAR = VerdictPolicy(near_duplicate_similarity=float(np.cos(np.radians(15.5))), neighbors=3)


def event(id: str, degrees: float) -> VectorEvent:
    angle = np.radians(degrees)
    vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
    return VectorEvent(id=id, vector=vector, space="s", model="m", source=TextSource(TopicPartition("t", 0), 1, 2))


def judge_all(judge: Judge, arrivals: Sequence[Arrival]) -> list[Verdict]:
    return judge.judge([event(*arrival) for arrival in arrivals])


def restore_all(judge: Judge, arrivals: Sequence[Arrival]) -> None:
    judge.restore([event(*arrival) for arrival in arrivals])


def in_memory(capacity: int = 100) -> Judge:
    return Judge(VectorIndex(2, capacity), NEAR)


def new_judge() -> Judge:
    return indexing.new_judge(NEAR)


def groups(given: Sequence[Verdict]) -> list[tuple[str, str | None]]:
    assert all((verdict.verdict == "near_duplicate") == (verdict.duplicate_of is not None) for verdict in given)
    return [(verdict.id, verdict.duplicate_of) for verdict in given]


@everywhere
def test_the_first_of_a_group_is_named_even_by_those_who_resemble_only_its_members() -> None:
    judge = new_judge()
    assert groups(judge_all(judge, [("a", 0), ("far", 180), ("b", 10), ("c", 20), ("d", 30)])) == [
        ("a", None),
        ("far", None),
        ("b", "a"),
        ("c", "a"),
        ("d", "a"),
    ]
    assert groups(judge_all(judge, [("e", 36)])) == [("e", "a")]


@everywhere
def test_similarity_is_that_of_the_nearest() -> None:
    first, second, third = judge_all(new_judge(), [("a", 0), ("b", 90), ("c", 180)])
    assert (first.similarity, first.nearest) == (None, [])
    assert abs(second.similarity or 0) < 1e-6
    assert [match.id for match in third.nearest] == ["b", "a"]
    assert third.verdict == "warming_up"


@everywhere
def test_an_event_sent_again_is_not_its_own_duplicate() -> None:
    judge = new_judge()
    assert groups(judge_all(judge, [("a", 0), ("a", 0), ("b", 10), ("a", 0), ("a", 1)])) == [
        ("a", None),
        ("a", None),
        ("b", "a"),
        ("a", None),  # nor a duplicate of its own duplicate
        ("a", None),
    ]
    assert size_of(judge.index) == 2


@everywhere
def test_an_event_that_changed_leaves_its_group() -> None:
    judge = new_judge()
    judge_all(judge, [("a", 0), ("b", 10), ("b", 90)])
    assert groups(judge_all(judge, [("c", 95), ("d", 5)])) == [("c", "b"), ("d", "a")]


@everywhere
def test_a_group_outlives_its_first() -> None:
    judge = new_judge()
    judge_all(judge, [("a", 0), ("b", 10)])
    assert judge.forget("a")
    assert not judge.forget("a")
    assert groups(judge_all(judge, [("c", 11)])) == [("c", "a")]
    assert judge.forget("b")
    assert judge.forget("c")
    assert groups(judge_all(judge, [("b", 10)])) == [("b", None)]


ARRIVALS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 12).map(lambda n: n * 8.0)), max_size=40)


@given(ARRIVALS, st.sets(st.integers(0, 40)), st.integers(1, 8))
@settings(max_examples=examples(200))
def test_batches_do_not_matter(arrivals: list[Arrival], cuts: set[int], capacity: int) -> None:
    single, batched = in_memory(capacity), in_memory(capacity)
    one_by_one = [verdict for arrival in arrivals for verdict in judge_all(single, [arrival])]
    edges = [0, *sorted(cut for cut in cuts if cut < len(arrivals)), len(arrivals)]
    in_batches = [verdict for a, b in pairwise(edges) for verdict in judge_all(batched, arrivals[a:b])]
    assert in_batches == one_by_one


TEXTS = ("the ship sank off the coast at night", "the ship sank off the coast", "ship 7 sank at night", "all is well")
DESCRIBED = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"), st.integers(0, 359), st.none() | st.sampled_from(TEXTS), st.integers(0, 300)
    ),
    max_size=60,
)


@given(DESCRIBED, st.sets(st.integers(0, 60)), st.integers(3, 9), st.none() | st.just(64))
@settings(max_examples=examples(200))
def test_batches_do_not_matter_to_what_is_learned_from_the_stream(
    arrivals: list[tuple[str, int, str | None, int]], cuts: set[int], capacity: int, window: int | None
) -> None:
    events = [
        replace(
            event(id, degrees),
            timestamp=time,
            text=text,
            sketch=None if text is None else unpack(sketch(text)),
            form=None if text is None else unpack_form(form_of(text)),
        )
        for id, degrees, text, time in arrivals
    ]
    policy = VerdictPolicy(neighbors=3, false_alarm_rate=0.3, window=window)
    small = (
        patch.multiple(anomalies, _SCORES=4),
        patch.multiple(content, FEWEST=3, NEIGHBOURS=2, _PROBATION=6),
        patch.multiple(form, FEWEST=4, _OFTEN=3),
        patch.multiple(calibration, _FEWEST=4, _MOST=9),
        patch.multiple(judge, _RUN=7),
    )
    with ExitStack() as stack:
        for patched in small:
            stack.enter_context(patched)
        single, batched = (Judge(VectorIndex(2, capacity), policy) for _ in range(2))
        one_by_one = [verdict for arrival in events for verdict in single.judge([arrival])]
        edges = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
        in_batches = [verdict for a, b in pairwise(edges) for verdict in batched.judge(events[a:b])]
    assert in_batches == one_by_one


@everywhere
def test_a_stranger_is_an_anomaly_once_there_is_enough_to_compare_with() -> None:
    rng = np.random.default_rng(1)
    usual = unit_rows(rng.normal(size=(1000, 32)) + 6 * np.eye(32)[0])
    judge = indexing.new_judge(VerdictPolicy(), 32)
    said = judge.judge([VectorEvent(id=f"u{i}", vector=row, space="s", model="m") for i, row in enumerate(usual)])
    first = next(i for i, verdict in enumerate(said) if verdict.p_value is not None)
    assert 100 <= first < 110  # and some copies
    assert [verdict.events_missing for verdict in said[:3]] == [99, 98, 97]
    assert all(verdict.p_value is None for verdict in said[:first])
    assert sum(verdict.verdict == "anomaly" for verdict in said[first:]) / (1000 - first) < 0.03
    stranger = VectorEvent(id="x", vector=np.eye(32, dtype=np.float32)[5], space="s", model="m")
    (verdict,) = judge.judge([stranger])
    assert verdict.verdict == "anomaly"
    assert verdict.p_value is not None
    assert verdict.p_value <= 0.01
    assert verdict.score is not None
    assert verdict.score > max(verdict.score or 0 for verdict in said[first:])
    assert (verdict.reason, verdict.form_p_value) == ("content", None)
    restarted = indexing.new_judge(VerdictPolicy(), 32)
    restarted.restore([VectorEvent(id=f"u{i}", vector=row, space="s", model="m") for i, row in enumerate(usual)])
    (again,) = restarted.judge([stranger])
    assert again.verdict == "anomaly"
    assert again.score is not None
    assert abs(again.score - verdict.score) < 0.5  # near enough: the restored ones were not judged one by one


@everywhere
def test_a_crowd_of_strangers_stays_strange() -> None:
    rng = np.random.default_rng(3)
    usual = unit_rows(rng.normal(size=(1500, 32)) + 6 * np.eye(32)[0])
    crowd = unit_rows(rng.normal(size=(40, 32)) + 6 * np.eye(32)[5])
    judge = indexing.new_judge(VerdictPolicy(), 32)
    judge.judge([VectorEvent(id=f"u{i}", vector=row, space="s", model="m") for i, row in enumerate(usual)])
    said = judge.judge([VectorEvent(id=f"c{i}", vector=row, space="s", model="m") for i, row in enumerate(crowd)])
    late = [verdict.content_p_value or 1.0 for verdict in said if verdict.verdict != "near_duplicate"][20:]
    assert len(late) > 15
    assert max(late) < 0.06  # although the 16 nearest of each are of the crowd


@everywhere
def test_what_has_expired_is_not_compared_with() -> None:
    judge = indexing.new_judge(VerdictPolicy(near_duplicate_similarity=0.9, window=6400))
    times = [0, 1000, 6000, 7000, 7500, 7600]
    said = judge.judge([replace(event(f"e{time}", 0), timestamp=time) for time in times])
    assert [match.id for match in said[3].nearest] == ["e0", "e1000", "e6000"]
    assert [match.id for match in said[5].nearest] == ["e6000", "e7000", "e7500"]
    assert size_of(judge.index) == 4


@given(st.lists(st.integers(0, 12).map(lambda n: n * 8.0), max_size=30), st.integers(0, 30))
@example([72.0, 16.0, 80.0, 64.0, 64.0, 8.0, 24.0, 48.0, 16.0, 32.0, 24.0, 80.0, 88.0, 48.0, 40.0, 88.0, 16.0,
          24.0, 32.0, 88.0, 16.0, 40.0, 56.0], 17)  # fmt: skip
@settings(max_examples=examples(200))
def test_a_restart_does_not_split_groups(directions: list[float], stop: int) -> None:
    arrivals = [(f"id-{i}", degrees) for i, degrees in enumerate(directions)]
    through, restarted = in_memory(), in_memory()
    expected = judge_all(through, arrivals)[stop:]
    restore_all(restarted, arrivals[:stop])
    assert judge_all(restarted, arrivals[stop:]) == expected


@pytest.mark.slow
def test_what_is_known_of_forgotten_events_is_dropped() -> None:
    judge = in_memory(capacity=10)
    for start in range(0, 5000, 50):
        judge_all(judge, [(f"id-{i}", 0) for i in range(start, start + 50)])
    assert groups(judge_all(judge, [("end", 0)])) == [("end", "id-0")]  # and nothing else is
    restore_all(judge, [(f"restored-{i}", 0) for i in range(3000)])
    judge_all(judge, [("last", 0)])
    state = judge._groups.state()
    assert len(state["firsts"]) + len(state["unjudged"]) < 1100


@pytest.mark.slow
def test_form_is_a_reason_of_its_own() -> None:
    rng = np.random.default_rng(2)
    vectors = unit_rows(rng.normal(size=(1200, 32)) + 6 * np.eye(32)[0])

    def shaped(i: int, text: str) -> VectorEvent:
        return replace(event(f"e{i}", 0), vector=vectors[i], form=unpack_form(form_of(text)))

    words = [
        "see",
        "you",
        "at",
        "the",
        "station",
        "later",
        "than",
        "we",
        "said",
        "because",
        "of",
        "the",
        "rain",
        "and",
        "the",
        "bus",
    ]
    texts = [" ".join(rng.choice(words, rng.integers(3, 9))) for _ in range(1199)]
    judge = Judge(VectorIndex(32, 2000), VerdictPolicy())
    said = judge.judge([shaped(i, text) for i, text in enumerate(texts)])
    rate = np.mean([verdict.verdict == "anomaly" for verdict in said if verdict.p_value is not None])
    assert rate < 0.03
    # In a place where many vectors lie, so that only the form is strange.
    usual = int((vectors @ vectors.mean(axis=0)).argmax())
    loud = replace(
        shaped(1199, "WIN 10000000 NOW 0800 555 1234 CALL 0900 111!!!! www.win.example"), vector=vectors[usual]
    )
    (verdict,) = judge.judge([replace(loud, vector=unit_rows(vectors[usual][None] + 0.02)[0])])
    assert verdict.form_p_value is not None
    assert verdict.form_p_value < 0.001
    assert verdict.content_p_value is not None
    assert verdict.content_p_value > 0.1
