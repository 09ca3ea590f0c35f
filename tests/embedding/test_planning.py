from __future__ import annotations

from math import ceil, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.embedding.planning import JSON_BYTES, Caps, TokenEstimator, byte_sizes, plan

token_lists = st.lists(st.integers(0, 300), max_size=300)


def check(tokens: list[int], sizes: list[int], caps: Caps) -> list[list[int]]:
    groups = [group.tolist() for group in plan(tokens, sizes, caps)]
    assert sorted(text for group in groups for text in group) == list(range(len(tokens)))
    for group in groups:
        assert group
        assert len(group) <= caps.items
        if len(group) > 1:
            assert sum(tokens[i] for i in group) <= caps.tokens * (1 + 1e-6)
            assert sum(sizes[i] + JSON_BYTES for i in group) <= caps.bytes * (1 + 1e-6)
    return groups


@given(token_lists, st.integers(1, 50), st.one_of(st.just(inf), st.integers(1, 2000)), st.sampled_from([inf, 900.0]))
def test_every_text_is_in_one_request_and_every_request_within_the_caps(
    tokens: list[int], items: int, cap: float, byte_cap: float
) -> None:
    check(tokens, [4 * count for count in tokens], Caps(items, cap, byte_cap))


@given(token_lists, st.integers(1, 50))
def test_without_a_cap_on_tokens_the_requests_are_as_few_as_items_allow(tokens: list[int], items: int) -> None:
    groups = check(tokens, tokens, Caps(items=items))
    assert len(groups) == ceil(len(tokens) / items)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=2000))
def test_texts_that_are_small_against_the_cap_leave_hardly_any_room_unused(tokens: list[int]) -> None:
    groups = check(tokens, tokens, Caps(tokens=1000))
    assert len(groups) <= ceil(sum(tokens) / 1000) + 1


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=400))
def test_texts_of_any_size_need_at_most_two_ninths_more_than_the_fewest(tokens: list[int]) -> None:
    groups = check(tokens, tokens, Caps(tokens=1000))
    fewest = max(ceil(sum(tokens) / 1000), sum(count > 500 for count in tokens))
    assert len(groups) <= 11 / 9 * max(fewest, 1) * 1.2 + 1


def test_heavy_and_light_texts_are_mixed_where_items_and_tokens_both_matter() -> None:
    tokens = [10] * 100 + [1] * 100  # heavy ones alone would take two requests, and so would the number of items
    assert len(check(tokens, tokens, Caps(items=100, tokens=600))) == 2


def test_a_text_over_the_cap_goes_alone() -> None:
    groups = check([5, 5000, 5], [5, 5, 5], Caps(tokens=1000))
    assert sorted(groups, key=len) == [[1], [0, 2]]


def test_nothing_needs_no_request() -> None:
    assert plan([], [], Caps()) == []


def test_ten_thousand_short_texts_fill_the_fewest_openai_requests() -> None:
    tokens = np.random.default_rng(1).integers(5, 60, 10_000).tolist()
    assert len(check(tokens, tokens, Caps(2048, 300_000))) == 5


def test_three_hundred_thousand_tokens_are_never_exceeded() -> None:
    tokens = np.random.default_rng(2).integers(100, 8191, 500).tolist()
    groups = check(tokens, tokens, Caps(2048, 300_000))
    assert len(groups) <= 1.05 * ceil(sum(tokens) / 300_000) + 1


class TestEstimates:
    def test_sizes_are_utf8_bytes(self) -> None:
        assert byte_sizes(["", "abc", "äö", "😀", "\ud800"]).tolist() == [0, 3, 4, 4, 3]

    @given(st.lists(st.text(max_size=50), max_size=20))
    def test_before_any_report_a_text_has_at_least_as_many_tokens_as_bytes(self, texts: list[str]) -> None:
        sizes = byte_sizes(texts)
        assert (TokenEstimator().estimate(texts, sizes) >= sizes).all()

    def test_reports_bring_the_estimate_down_to_a_margin_above_them(self) -> None:
        estimator, sizes = TokenEstimator(), np.full(100, 398.0)
        estimator.learn(100, 39_800, 10_000)
        total = estimator.estimate([""] * 100, sizes).sum()
        assert 10_000 < total <= 11_100

    def test_a_report_of_more_counts_at_once_and_of_less_little_by_little(self) -> None:
        estimator, size = TokenEstimator(), np.array([10_000.0])
        estimator.learn(1, 10_000, 2500)
        estimator.learn(1, 10_000, 5000)
        raised = estimator.estimate([""], size)[0]
        assert raised >= 5000
        estimator.learn(1, 10_000, 2500)
        assert 5000 <= estimator.estimate([""], size)[0] < raised

    def test_a_report_on_a_few_bytes_lowers_nothing(self) -> None:
        estimator = TokenEstimator()
        estimator.learn(1, 20, 1)
        assert estimator.estimate([""], np.array([1000.0]))[0] >= 1000

    def test_never_more_than_bytes_and_never_less_than_a_tokenizer_says(self) -> None:
        estimator = TokenEstimator()
        estimator.learn(1, 2000, 9000)
        assert estimator.estimate([""], np.array([1000.0]))[0] == 1002
        exact = TokenEstimator(lambda texts: [len(text.split()) for text in texts])
        assert exact.is_exact
        assert exact.estimate(["a b c", "d"], byte_sizes(["a b c", "d"])).tolist() == [3, 1]


@pytest.mark.parametrize("count", [1, 7, 512])
def test_without_caps_everything_is_one_request(count: int) -> None:
    assert [len(group) for group in plan([10] * count, [40] * count, Caps())] == [count]
