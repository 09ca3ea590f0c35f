"""The largest value of the last minute."""

from __future__ import annotations

from streamer.telemetry.recent import RecentMaximum


def test_the_largest_of_the_last_minute_and_not_of_before() -> None:
    recent = RecentMaximum(60.0)
    assert recent.value(0.0) == 0.0
    recent.note(5.0, 100.0)
    recent.note(3.0, 101.0)
    recent.note(4.0, 120.0)
    assert recent.value(121.0) == 5.0
    assert recent.value(159.0) == 5.0
    assert recent.value(161.0) == 4.0
    assert recent.value(200.0) == 0.0


def test_values_below_zero_are_none() -> None:
    recent = RecentMaximum(60.0)
    recent.note(-3.0, 0.0)
    assert recent.value(1.0) == 0.0


def test_it_keeps_a_few_numbers_however_often_it_is_told() -> None:
    recent = RecentMaximum(60.0)
    for second in range(100_000):
        recent.note(1.0, second / 100)
    assert len(recent._parts) <= 12
