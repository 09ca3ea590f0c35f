"""Copies and look-alikes: fixed thresholds, sure copies, and what a stream teaches."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.core.sketch import Overlap, sketch, unpack
from streamer.core.verdicts import Match
from streamer.indexer.verdicts.near_duplicates import Candidate, NearDuplicateDetector, candidates


def candidate(similarity: float, share: float | None, id: str = "a", agreement: float = 1.0) -> Candidate:
    return Candidate(Match(id, similarity), None if share is None else Overlap(share, agreement))


def found(detector: NearDuplicateDetector, *given: Candidate, background: float = 0.0) -> list[str]:
    return [match.id for match in detector.copies(given, background, 100)]


def test_a_fixed_threshold_looks_at_the_cosine_only() -> None:
    detector = NearDuplicateDetector(0.8, 0.01)
    assert found(detector, candidate(0.81, 0.0), candidate(0.8, None, "b"), candidate(0.79, 1.0, "c")) == ["a", "b"]
    assert detector.thresholds() == {"words": 0.8, "cosine": 0.8}


@pytest.mark.parametrize(
    ("similarity", "overlap", "background", "sure"),
    [
        (0.6, 0.85, 0.0, True),  # a copy that was extended beyond recognition
        (0.95, 0.5, 0.0, True),  # told in other words
        (0.85, 0.5, 0.0, False),  # the same event reported twice
        (0.95, None, 0.0, True),
        (0.95, None, 0.8, False),  # of a model for which unrelated texts have 0.8
        (0.99, None, 0.8, True),
        (1.0, None, 1.0, True),
    ],
)
def test_before_anything_is_learned_only_sure_copies_count(
    similarity: float, overlap: float | None, background: float, sure: bool
) -> None:
    detector = NearDuplicateDetector("auto", 0.01)
    assert bool(found(detector, candidate(similarity, overlap), background=background)) == sure


LINE = "{} INFO Connection from 10.0.0.{} port {} closed after {} ms"


@pytest.mark.parametrize("numbers_matter", [True, False])
def test_lines_of_one_template_are_copies_where_numbers_do_not_matter(numbers_matter: bool) -> None:
    first = unpack(sketch(LINE.format("12:00:01", 7, 40122, 15)))
    other = unpack(sketch(LINE.format("12:00:09", 9, 51877, 871)))
    failed = unpack(sketch("12:00:09 ERROR Connection to 10.0.0.9 port 22 refused"))
    near = [Match("other", 0.85), Match("failed", 0.6)]
    (compared,) = candidates([first], [near], [[other, failed]], numbers_matter=numbers_matter)
    assert found(NearDuplicateDetector("auto", 0.01), *compared) == ([] if numbers_matter else ["other"])


@pytest.mark.parametrize("overlap", [True, False])
def test_the_threshold_follows_the_stream(overlap: bool) -> None:
    rng = np.random.default_rng(1)
    detector = NearDuplicateDetector("auto", 0.01)
    raised = 0
    for _ in range(4000):
        level = float(rng.uniform(0.3, 0.7))
        raised += bool(found(detector, candidate(level, level if overlap else None)))
        if rng.random() < 0.2:  # many copies, which must not move the threshold
            assert found(detector, candidate(0.97, 0.95 if overlap else None))
    assert raised / 4000 == pytest.approx(0.01, rel=0.3)
    assert detector.thresholds()["words" if overlap else "cosine"] == pytest.approx(0.696, abs=0.005)
    assert found(detector, candidate(0.74, 0.74 if overlap else None))


def test_where_nothing_resembles_anything_nothing_is_a_copy() -> None:
    detector = NearDuplicateDetector("auto", 0.01)
    assert not any(found(detector, candidate(i % 7 / 20, i % 7 / 20)) for i in range(1000))
    assert not found(detector, candidate(0.45, 0.45))
    assert found(detector, candidate(0.6, 0.5))


def test_exchanged_numbers_make_another_text() -> None:
    detector = NearDuplicateDetector("auto", 0.01)
    assert found(detector, candidate(0.99, 0.7))
    assert not found(detector, candidate(0.99, 0.7, agreement=0.7))


def test_the_most_similar_comes_first() -> None:
    detector = NearDuplicateDetector("auto", 0.01)
    assert found(detector, candidate(0.99, 0.82), candidate(0.9, 0.99, "b"), candidate(0.95, 0.2, "c")) == ["b", "a"]


def test_batches_of_events_with_and_without_sketches() -> None:
    one, two = unpack(sketch("a quick brown fox")), unpack(sketch("a lazy dog"))
    matches = [Match("a", 0.9), Match("b", 0.5)]
    compared = candidates([one, None, two], [matches, matches, matches[:1]], [[one, None], [one, two], [two]])
    assert [[pair.overlap for pair in pairs] for pairs in compared] == [[(1, 1), None], [None, None], [(1, 1)]]
    assert candidates([], [], []) == []
