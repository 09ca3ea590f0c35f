from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.embedding.backoff import BackoffPolicy

jitters = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 100_000), jitters)
def test_the_delay_is_at_least_half_of_the_schedule_and_never_more_than_the_maximum(
    attempt: int, jitter: float
) -> None:
    policy = BackoffPolicy(initial=0.5, maximum=60.0, factor=2.0)
    whole = min(60.0, 0.5 * 2.0 ** min(attempt, 20))
    assert whole / 2 <= policy.delay(attempt, jitter=jitter) <= whole


@given(st.floats(0, 120, exclude_min=True), st.integers(0, 50), jitters)
def test_a_wish_is_never_undercut_and_hardly_exceeded(wish: float, attempt: int, jitter: float) -> None:
    delay = BackoffPolicy().delay(attempt, retry_after=wish, jitter=jitter)
    assert wish <= delay <= wish + min(0.5, wish)


@pytest.mark.parametrize(("wish", "longest"), [(86_400.0, 120.5), (-3.0, 0.5), (0.0, 0.5)])
def test_absurd_wishes_are_bounded_and_none_makes_a_hot_loop(wish: float, longest: float) -> None:
    assert BackoffPolicy().delay(0, retry_after=wish, jitter=0.0) >= 0.25
    assert BackoffPolicy().delay(0, retry_after=wish, jitter=0.99) <= longest


@pytest.mark.parametrize("values", [{"initial": 0.0}, {"initial": 2.0, "maximum": 1.0}, {"factor": 0.5}])
def test_policies_that_would_not_back_off_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a backoff policy"):
        BackoffPolicy(**values)
