"""How fast a counter grows, over the last seconds."""

from __future__ import annotations

import pytest

from streamer.telemetry.rate import Rate


def test_it_is_that_of_the_last_seconds() -> None:
    rate = Rate(10.0)
    assert rate.per_second() == 0.0
    for second in range(100):
        rate.note(second * 100, float(second))
    assert rate.per_second() == pytest.approx(100)
    for second in range(100, 112):
        rate.note(9900, float(second))
    assert rate.per_second() == 0.0


def test_a_counter_that_begins_anew_is_no_negative_rate() -> None:
    rate = Rate()
    rate.note(1000, 0.0)
    rate.note(0, 1.0)
    assert rate.per_second() == 0.0


def test_it_keeps_a_few_numbers_however_often_it_is_told() -> None:
    rate = Rate(10.0)
    for n in range(10_000):
        rate.note(n, n / 100)
    assert len(rate._seen) < 30
    assert rate.per_second() == pytest.approx(100, rel=0.1)
