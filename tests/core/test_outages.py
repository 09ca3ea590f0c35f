"""When an outage is told: at its beginning, when its reason changes, at its end, and not again and again."""

from __future__ import annotations

from collections.abc import Iterable

from streamer.core.outages import Outage


def told(outage: Outage, looks: Iterable[tuple[float, str | None]]) -> list[tuple[str, float, float]]:
    """(kind, when, seconds) of what came of these looks."""
    found: list[tuple[str, float, float]] = []
    for now, reason in looks:
        if transition := outage.observe(reason, now):
            found.append((transition.kind, now, transition.seconds))
    return found


def every(step: float, start: float, end: float, reason: str | None) -> list[tuple[float, str | None]]:
    return [(start + n * step, reason) for n in range(round((end - start) / step))]


def test_beginning_each_change_and_end() -> None:
    """First hour D1."""
    looks = [
        *every(0.25, 0, 10, None),
        *every(0.25, 10, 20, "down: openai answered 500: “a”"),
        *every(0.25, 20, 30, "down: openai answered 500: “b”"),
        *every(0.25, 30, 40, "rate limited until 2026-01-02T03:04:05Z: openai answered 429"),
        *every(0.25, 40, 50, "blocked: openai answered 401"),
        *every(0.25, 50, 60, None),
    ]
    assert told(Outage(1.0), looks) == [
        ("began", 11.0, 1.0),
        ("changed", 31.0, 21.0),
        ("changed", 41.0, 31.0),
        ("ended", 51.0, 40.0),
    ]


def test_a_moment_is_no_outage_and_more_than_two_seconds_are_one() -> None:
    for seconds, kinds in ((0.75, []), (2.25, ["began", "ended"])):
        looks = [*every(0.25, 0, seconds, "down"), *every(0.25, seconds, 10, None)]
        assert [kind for kind, _, _ in told(Outage(1.0), looks)] == kinds


def test_reasons_that_change_all_the_time_still_begin_an_outage() -> None:
    """First hour D1."""
    looks = [(n / 4, f"down: {'ab'[n % 2]}") for n in range(100)]
    assert [kind for kind, _, _ in told(Outage(1.0), looks)] == ["began"]


def test_a_reason_that_comes_back_is_not_told_again_at_once() -> None:
    looks = [(n / 4, f"down: {'ab'[n // 8 % 2]}") for n in range(800)]
    kinds = [kind for kind, _, _ in told(Outage(1.0), looks)]
    assert kinds[:2] == ["began", "changed"]
    assert 2 < len(kinds) <= 2 + 2 * (200 // 60), "each reason once a minute"


def test_a_part_that_flaps_is_one_long_outage() -> None:
    """First hour D1."""
    looks = [(n / 4, "down" if n // 12 % 2 else None) for n in range(4 * 600)]  # three seconds each
    found = told(Outage(1.0), looks)
    assert [kind for kind, _, _ in found] == ["began", "ended"] * 2 + ["began"]


def test_an_outage_long_after_the_last_ends_as_fast_as_the_first() -> None:
    outage = Outage(1.0)
    for start in (0.0, 100.0, 200.0):
        looks = [*every(0.25, start, start + 10, "down"), *every(0.25, start + 10, start + 20, None)]
        assert told(outage, looks) == [("began", start + 1, 1.0), ("ended", start + 11, 10.0)]


def test_without_settling_each_is_told_when_it_is_seen() -> None:
    assert told(Outage(0.0), [(1, "full"), (2, "full"), (3, "gone"), (4, None), (5, None)]) == [
        ("began", 1, 0),
        ("changed", 3, 2),
        ("ended", 4, 3),
    ]


def test_the_lines() -> None:
    outage = Outage(0.0)
    assert [
        transition.line("provider")
        for now, reason in [(1.0, "x"), (3.04, "y"), (5.0, None)]
        if (transition := outage.observe(reason, now))
    ] == [
        (30, "provider unavailable", {"part": "provider", "reason": "x"}),
        (30, "provider still unavailable, for another reason", {"part": "provider", "reason": "y", "seconds": 2.0}),
        (20, "provider available again", {"part": "provider", "seconds": 4.0}),
    ]
