"""All limits of an account together: what holds a call back, and what refusals and headers teach about them."""

from __future__ import annotations

from math import inf

import pytest

from streamer.embedding.quota import Quota, seconds
from streamer.embedding.rate_limit import WINDOW


def test_a_call_waits_for_the_slowest_of_its_limits_and_takes_from_all() -> None:
    quota = Quota(requests_per_minute=600, tokens_per_minute=1000)
    assert quota.wait(900, 1, 0.0) == 0.0
    quota.take(900, 1, 0.0)
    delay = quota.wait(900, 1, 1.0)
    assert delay > 50
    assert quota.wait(1, 1, 60.0) == 0.0


@pytest.mark.parametrize("kind", ["requests_per_minute", "tokens_per_minute", "items_per_minute"])
def test_each_kind_of_limit_holds_back(kind: str) -> None:
    quota = Quota(**{kind: 60})
    sent = 0
    now = 0.0
    while now < WINDOW:
        delay = quota.wait(1, 1, now)
        if delay == 0.0:
            quota.take(1, 1, now)
            sent += 1
        now += delay
    assert 58 <= sent <= 60


def test_a_pause_holds_back_everything_and_is_never_shortened() -> None:
    quota = Quota()
    quota.pause(10.0)
    quota.pause(5.0)
    assert quota.wait(1, 1, 4.0) == 6.0
    assert quota.wait(1, 1, 10.0) == 0.0


def test_few_refusals_at_the_start_teach_nothing() -> None:
    quota = Quota()
    for _ in range(5):
        quota.refused(quota.take(100, 10, 0.0), 0.0, persists=True)
    assert quota.wait(100, 10, 0.0) == 0.0


def refused_after(seconds_of_usage: int, *, persists: bool) -> Quota:
    """A hundred calls within so many seconds, then a refusal."""
    quota = Quota()
    for i in range(100):
        quota.take(100, 10, seconds_of_usage * i / 100)
    now = float(seconds_of_usage)
    quota.refused(quota.take(100, 10, now), now, persists=persists)
    return quota


@pytest.mark.parametrize(("seconds_of_usage", "persists"), [(5, False), (5, True), (58, False)])
def test_what_is_accepted_again_at_once_was_refused_for_another_reason_than_a_rate(
    seconds_of_usage: int, persists: bool
) -> None:
    quota = refused_after(seconds_of_usage, persists=persists)
    now = seconds_of_usage + 1.0
    assert quota.wait(100, 10, now) == 0.0
    quota.accepted(now)
    assert quota.wait(100, 10, now) == 0.0


@pytest.mark.parametrize(("persists", "learns"), [(True, True), (False, False)])
def test_what_is_refused_until_the_window_is_over_was_refused_for_its_rate(persists: bool, learns: bool) -> None:
    quota = refused_after(5, persists=persists)
    quota.take(100, 10, 64.0)
    quota.accepted(64.0)
    for _ in range(96):
        quota.take(100, 10, 64.1)
    assert (quota.wait(100, 10, 66.0) > 0) == learns


def test_what_is_refused_twice_in_a_while_was_refused_for_its_rate() -> None:
    quota = refused_after(58, persists=False)
    quota.accepted(58.5)
    quota.refused(quota.take(100, 10, 59.0), 59.0, persists=False)
    assert quota.wait(100, 10, 59.0) > 0


def test_the_known_limit_that_is_half_used_is_blamed_for_a_refusal() -> None:
    quota = Quota(requests_per_minute=100)
    for i in range(60):
        quota.take(1000, 10, float(i))
    quota.refused(quota.take(1000, 10, 60.0), 60.0, persists=False)
    assert 0 < quota.wait(1, 1, 60.0) < 10  # something was learned about requests,
    assert quota.wait(1e6, 1000, 70.0) == 0.0  # nothing about tokens and items


def test_requests_are_small_against_the_token_limit_unless_the_request_limit_forbids() -> None:
    assert Quota().request_tokens() == inf
    assert Quota(tokens_per_minute=640_000).request_tokens() == 10_000
    assert Quota(tokens_per_minute=10_000, requests_per_minute=3).request_tokens() == pytest.approx(3333, abs=1)


def test_headers_of_an_unknown_limit_are_adopted() -> None:
    quota = Quota()
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
    }
    quota.observe(quota.take(10, 1, 0.0), headers, 0.1)
    assert quota.is_known
    sent = sum(quota.wait(10, 1, 0.1) == 0.0 and bool(quota.take(10, 1, 0.1)) for _ in range(10))
    assert sent <= 2


def test_nothing_left_of_a_limit_that_is_not_told_means_a_pause_until_the_reset() -> None:
    quota = Quota()
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12s"}
    quota.observe(quota.take(10, 1, 0.0), headers, 0.0)
    assert quota.wait(10, 1, 0.0) == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6m0s", 360.0),
        ("59.2ms", 0.0592),
        ("1h2m", 3720.0),
        ("1.5", 1.5),
        ("20", 20.0),
        (" 7s ", 7.0),
        ("", None),
        ("soon", None),
        ("5s later", None),
        ("nan", None),
        ("-1", None),
        (None, None),
    ],
)
def test_durations_are_read_as_vendors_write_them(text: str | None, expected: float | None) -> None:
    assert seconds(text) == (None if expected is None else pytest.approx(expected))
