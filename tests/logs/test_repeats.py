"""Which lines repeat one another, and when their count is told."""

from __future__ import annotations

import pytest

from streamer.core.outages import normalized
from streamer.logs.repeats import Repeated, Repeats


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("not JSON: unexpected end at column 17", "not JSON: unexpected end at column 9"),
        ("openai answered 400: “no 'x' here”", "openai answered 400: “bad: y"),
        ("rate limited until 2026-01-02T03:04:05Z: slow", "rate limited until 2026-01-02T03:04:09Z: slow"),
        ("rate limited until 2026-01-02T03:04:05Z: 5 more", "rate limited: 6 more"),
        ("can't read 'a b' of req_a1b2", "can't read 'c' of req_c3d4"),
        ('no field "x"', 'no field "y z"'),
    ],
)
def test_what_varies_is_left_out(one: str, other: str) -> None:
    assert normalized(one) == normalized(other) != one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("openai answered 500", "openai answered 429"),
        ("openai answered 401; check the key", "openai answered 401; check the model"),
        ("no text", "no id"),
    ],
)
def test_what_differs_is_kept(one: str, other: str) -> None:
    assert normalized(one) != normalized(other)


def test_the_first_is_told_and_the_others_are_counted() -> None:
    repeats: Repeats[str] = Repeats(5.0)
    assert [repeats.is_first("g", "d", f"line {n}", n / 1000) for n in range(1_000)] == [True] + [False] * 999
    assert repeats.is_first("g", "another", "x", 1.0)
    assert repeats.is_first("another", "d", "x", 1.0)
    assert repeats.due(4.9) == []
    assert repeats.due(5.0) == [Repeated("line 999", 999)]
    # While they go on, one summary in each interval.
    assert not repeats.is_first("g", "d", "again", 6.0)
    assert repeats.due(9.9) == []
    assert repeats.due(10.0) == [Repeated("again", 1)]


def test_what_has_stopped_is_forgotten_and_told_at_once_the_next_time() -> None:
    repeats: Repeats[str] = Repeats(5.0)
    assert repeats.is_first("g", "d", "a", 0.0)
    assert repeats.pending()
    assert repeats.due(5.0) == []
    assert not repeats.pending()
    assert repeats.is_first("g", "d", "b", 5.1)
    assert repeats.is_first("g", "d", "c", 10.2), "also where nobody asked for summaries meanwhile"


def test_the_rest_is_told_at_the_end() -> None:
    repeats: Repeats[str] = Repeats(5.0)
    for n in range(3):
        repeats.is_first("g", "d", f"line {n}", 0.0)
    assert repeats.rest() == [Repeated("line 2", 2)]
    assert repeats.rest() == []


def test_reasons_that_all_differ_cannot_flood_the_log() -> None:
    repeats: Repeats[str] = Repeats(5.0, max_details=3)
    told = [repeats.is_first("g", f"reason {n}", f"line {n}", 0.0) for n in range(100)]
    assert sum(told) == 4, "three by themselves, and one for all the others"
    assert repeats.due(5.0) == [Repeated("line 99", 96)]
