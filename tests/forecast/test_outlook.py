"""What a stream will cost, in numbers and in one sentence."""

from __future__ import annotations

from math import inf

import pytest

from streamer.embedding.prices import Price
from streamer.forecast.outlook import duration, outlook


def test_cost_and_time_of_a_stream_and_its_backlog() -> None:
    seen = outlook(rate=395.0, tokens=60.0, price=Price(0.02), backlog=260_000_000, capacity=8_420.0)
    assert seen.tokens_per_day == 395 * 60 * 86_400
    assert seen.usd_per_day == pytest.approx(40.95, abs=0.01)
    assert seen.backlog_usd == pytest.approx(312.0)
    assert seen.backlog_seconds == pytest.approx(260_000_000 / (8_420 - 395))
    assert str(seen) == "at this rate 41 USD a day; the backlog of 260,000,000 events costs 312 USD and takes 9 h"


def test_a_backlog_that_grows_never_ends() -> None:
    seen = outlook(rate=100.0, tokens=60.0, price=None, backlog=10, capacity=100.0)
    assert seen.backlog_seconds == inf
    assert "grows: more arrives than is done" in str(seen)
    assert "518,400,000 tokens a day" in str(seen)


def test_without_a_backlog_or_a_capacity_they_are_not_spoken_of() -> None:
    assert str(outlook(rate=1.0, tokens=10.0, price=Price(1.0))) == "at this rate 0.86 USD a day"
    assert outlook(rate=1.0, tokens=10.0, price=None, capacity=5.0).backlog_seconds == 0.0
    waiting = outlook(rate=0.0, tokens=10.0, price=None, backlog=5)
    assert waiting.backlog_seconds is None
    assert str(waiting) == "the backlog of 5 events has 50 tokens"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (40, "40 s"), (119, "119 s"), (720, "12 min"), (32_400, "9 h"), (3e5, "3 days")],
)
def test_durations_for_a_person(seconds: float, text: str) -> None:
    assert duration(seconds) == text
