"""What a request may hold: never more than the contract says, less after refusals, and slowly more again."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.embedding.quota import FEWEST_REQUESTS_A_WINDOW, Quota
from streamer.embedding.request_caps import RequestCaps
from tests.embedding.providers import contract


def caps(quota: Quota | None = None, **values: object) -> RequestCaps:
    return RequestCaps(contract(**{"max_items": 100, "max_request_tokens": 1000, **values}), quota or Quota())


def test_they_are_the_contracts_while_nobody_objects() -> None:
    current = caps(max_request_bytes=5000).current()
    assert (current.items, current.tokens, current.bytes) == (100, 1000, 5000)
    nothing = caps(max_items=None, max_request_tokens=None).current()
    assert (nothing.items, nothing.tokens, nothing.bytes) == (inf, inf, inf)


def test_a_quota_of_tokens_makes_requests_small_enough_to_use_it_up() -> None:
    quota = Quota(tokens_per_minute=640)
    assert caps(quota).current().tokens == 640 / FEWEST_REQUESTS_A_WINDOW


@pytest.mark.parametrize(
    ("reason", "items", "tokens"),
    [("too many inputs", 50, 1000), ("max 400 Tokens per request", 100, 400)],
)
def test_the_cap_that_the_refusal_names_is_lowered(reason: str, items: float, tokens: float) -> None:
    learned = caps()
    learned.refused(50, 400.0, reason)
    assert (learned.current().items, learned.current().tokens) == (items, tokens)
    learned.refused(80, 800.0, reason)
    assert (learned.current().items, learned.current().tokens) == (items, tokens), "never raised by a refusal"


def test_a_lowered_cap_grows_by_requests_that_come_close_to_it_only() -> None:
    learned = caps()
    learned.refused(50, 400.0, "too many inputs")
    for _ in range(1000):
        learned.accepted(44, 400.0)
    assert learned.current().items == 50
    learned.accepted(45, 400.0)
    assert learned.current().items == pytest.approx(50.5)
    for _ in range(1000):
        learned.accepted(int(learned.current().items), 400.0)
    assert learned.current().items == 100, "the contract's word is the last"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300), st.floats(0, 3000), st.sampled_from(["", "token"]))))
def test_a_request_may_always_hold_one_text_and_never_more_than_the_contract_allows(
    events: list[tuple[bool, int, float, str]],
) -> None:
    learned = caps()
    for is_refusal, items, tokens, reason in events:
        if is_refusal:
            learned.refused(items, tokens, reason)
        else:
            learned.accepted(items, tokens)
        assert 1 <= learned.current().items <= 100
        assert 0 <= learned.current().tokens <= 1000
