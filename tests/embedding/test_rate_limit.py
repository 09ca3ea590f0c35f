"""How a rate is kept, found out and given up again; and how many calls may be open at once."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.embedding.rate_limit import LEARNED_SHARE, WINDOW, AimdLimit, RateLimit
from tests.support.examples import examples


def busiest_window(sent: list[tuple[float, float]], window: float = WINDOW) -> float:
    """The largest sum of costs in any half-open window, wherever it begins."""
    sent = sorted(sent)
    times = [time for time, _ in sent]
    sums = [0.0, *accumulate(cost for _, cost in sent)]
    return max((sums[bisect_left(times, time + window)] - sums[i] for i, time in enumerate(times)), default=0.0)


def drive(limit: RateLimit, costs: list[float], gaps: list[float]) -> list[tuple[float, float]]:
    """A caller that waits as told and no longer, resting `gaps` between its calls."""
    now, sent = 1000.0, []
    for cost, gap in zip(costs, gaps, strict=True):
        now += gap
        while (delay := limit.reserve(cost, now)) > 0:
            now += delay
        sent.append((now, cost))
    return sent


costs_and_gaps = st.lists(
    st.tuples(st.floats(0.1, 120), st.one_of(st.just(0.0), st.floats(0, 2), st.floats(0, 200))), max_size=200
)


@given(costs_and_gaps, st.sampled_from([1.0, 7.0, 60.0, 1000.0]))
def test_no_window_ever_exceeds_the_limit(script: list[tuple[float, float]], limit: float) -> None:
    costs = [min(cost, limit) for cost, _ in script]
    sent = drive(RateLimit(limit), costs, [gap for _, gap in script])
    assert busiest_window(sent) <= limit * (1 + 1e-9)


@given(costs_and_gaps, st.data())
def test_no_window_exceeds_the_limit_when_the_network_delays_some_calls_by_up_to_a_second(
    script: list[tuple[float, float]], data: st.DataObject
) -> None:
    sent = drive(RateLimit(100.0), [min(cost, 100.0) for cost, _ in script], [gap for _, gap in script])
    delays = data.draw(st.lists(st.floats(0, 0.99), min_size=len(sent), max_size=len(sent)))
    arrived = [(time + delay, cost) for (time, cost), delay in zip(sent, delays, strict=True)]
    assert busiest_window(arrived) <= 100.0 * (1 + 1e-9)


@given(st.lists(st.tuples(st.floats(1, 40), st.floats(0, 1), st.floats(0, 20), st.booleans()), max_size=120))
def test_no_window_exceeds_the_limit_when_estimates_are_corrected_downwards_late(
    script: list[tuple[float, float, float, bool]],
) -> None:
    limit, now = RateLimit(100.0), 0.0
    sent = []
    open_calls = []
    for estimate, share, gap, settles in script:
        now += gap
        while (delay := limit.wait(estimate, now)) > 0:
            now += delay
        real = estimate * share
        sent.append((now, real))
        open_calls.append((limit.take(estimate, now), real - estimate))
        if settles:
            for usage, difference in open_calls:
                limit.correct(usage, difference)
            open_calls.clear()
    assert busiest_window(sent) <= 100.0 * (1 + 1e-9)


@pytest.mark.parametrize(("limit", "cost"), [(60, 1), (600, 1), (3000, 1), (1e6, 9_000), (1e6, 31_250)])
def test_a_busy_caller_uses_at_least_97_percent_of_five_windows(limit: float, cost: float) -> None:
    rate_limit, now, used = RateLimit(limit), 0.0, 0.0
    while True:
        delay = rate_limit.reserve(cost, now)
        now += delay
        if now >= 5 * WINDOW:
            break
        used += cost if delay == 0.0 else 0.0
    assert used >= 0.97 * 5 * limit


def test_usage_is_spread_with_a_burst_of_about_a_second() -> None:
    limit = RateLimit(600.0)
    at_once = 0
    while limit.reserve(1.0, 0.0) == 0.0:
        at_once += 1
    assert 10 <= at_once <= 11
    assert limit.wait(1.0, 0.0) == pytest.approx(0.1, abs=0.02)


def test_usage_that_is_remembered_together_counts_until_the_latest_of_it_has_left() -> None:
    limit = RateLimit(10.0)
    limit.take(5.0, 0.0)
    limit.take(5.0, 0.2)
    assert limit.wait(1.0, 61.1) == pytest.approx(0.1)


def test_a_cost_over_the_whole_limit_goes_alone_in_an_empty_window() -> None:
    limit = RateLimit(10.0)
    assert limit.reserve(500.0, 0.0) == 0.0
    assert limit.wait(1.0, 0.0) > WINDOW


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_must_be_positive(limit: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        RateLimit(limit)


def test_an_unknown_limit_holds_nothing_back() -> None:
    limit = RateLimit()
    assert all(limit.reserve(1e9, 0.0) == 0.0 for _ in range(100))


def test_a_refusal_teaches_what_the_last_window_accepted() -> None:
    limit = RateLimit()
    for i in range(100):
        limit.take(1.0, i / 10)
    limit.learn(10.0)
    assert limit.ceiling == pytest.approx(LEARNED_SHARE * 100)
    assert limit.wait(1.0, 10.0) > 40  # until the first of them leave the window


def test_the_ceiling_creeps_up_while_it_is_in_the_way_and_only_then() -> None:
    def run(demand: float) -> list[float]:
        limit, ceilings = RateLimit(), []
        for _ in range(100):
            limit.take(1.0, 0.0)
        limit.learn(0.0)
        now = 0.0
        for _ in range(8 * 60):
            now += 1
            taken = 0.0
            while taken < demand and limit.reserve(0.1, now) == 0.0:
                taken += 0.1
            ceilings.append(limit.ceiling)
        return ceilings

    busy, idle = run(demand=inf), run(demand=0.2)
    assert busy[120] < 1.05 * busy[0]
    assert busy[-1] > 1.5 * busy[0]
    assert idle[-1] == idle[70]  # once the hundred have left the window


def test_a_refusal_below_a_known_limit_lowers_it_for_a_while_and_never_raises_it() -> None:
    limit = RateLimit(50.0)
    limit.take(30.0, 0.0)
    limit.learn(0.0)
    assert limit.ceiling == pytest.approx(LEARNED_SHARE * 30)
    limit.take(500.0, 0.0)
    limit.learn(0.0)
    assert limit.ceiling == pytest.approx(LEARNED_SHARE * 30)


def test_a_header_lowers_the_limit_and_never_raises_it() -> None:
    limit = RateLimit(100.0)
    limit.observe(1000.0, 1000.0, 1.0, 0.0, 0.0)
    assert limit.ceiling == 100.0
    limit.observe(40.0, 40.0, 1.0, 0.0, 0.0)
    assert limit.ceiling == 40.0


def test_what_others_spent_counts_until_it_is_back() -> None:
    limit = RateLimit(100.0)
    limit.take(10.0, 0.0)
    limit.observe(100.0, 5.0, 20.0, 10.0, 1.0)  # 85 were spent by somebody else
    assert limit.wait(5.0, 2.0) < 20
    assert limit.wait(6.0, 7.0) == pytest.approx(14.0)
    assert limit.wait(6.0, 21.5) == 0.0


def test_it_takes_back_what_refusals_taught() -> None:
    limit = RateLimit(100.0)
    limit.take(30.0, 0.0)
    limit.learn(0.0)
    assert limit.ceiling < 30
    limit.observe(100.0, 60.0, 20.0, 30.0, 1.0)
    assert limit.ceiling == 90.0
    limit.observe(100.0, 5000.0, 20.0, 30.0, 1.0)
    assert limit.ceiling == 100.0


def test_our_own_calls_are_not_taken_for_those_of_others() -> None:
    limit = RateLimit(100.0)
    for i in range(50):
        limit.take(1.0, i * 0.6)
    limit.observe(100.0, 70.0, 18.0, 30.0, 30.0)  # the answer to the 30th
    assert limit.wait(1.0, 30.0) == 0.0


@settings(max_examples=examples(50))
@given(st.integers(1, 100), st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=300))
def test_it_stays_between_one_and_the_maximum(maximum: int, events: list[int | None]) -> None:
    limit = AimdLimit(maximum)
    for in_flight in events:
        before = limit.limit
        if in_flight is None:
            limit.on_dropped()
            assert limit.limit < before or before == 1
        else:
            limit.on_success(in_flight)
            assert limit.limit in (before, before + 1)
        assert 1 <= limit.limit <= maximum


def test_it_grows_only_when_at_least_half_is_in_use() -> None:
    limit = AimdLimit(100, initial=10)
    limit.on_success(4)
    assert limit.limit == 10
    limit.on_success(5)
    assert limit.limit == 11


def test_after_a_drop_it_looks_for_more_slowly_and_slowest_where_it_was_dropped() -> None:
    limit = AimdLimit(100, initial=20)
    limit.on_dropped()
    assert limit.limit == 18
    successes = []
    for target in (19, 20, 21):
        count = 0
        while limit.limit < target:
            limit.on_success(limit.limit)
            count += 1
        successes.append(count)
    assert successes == [pytest.approx(18, abs=1), pytest.approx(190, abs=2), pytest.approx(200, abs=2)]


@pytest.mark.parametrize(("maximum", "ratio"), [(0, 0.9), (4, 1.0), (4, 0.0)])
def test_a_limit_without_meaning_is_refused(maximum: int, ratio: float) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        AimdLimit(maximum, ratio=ratio)
