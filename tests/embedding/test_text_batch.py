"""A batch of texts and their places."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.embedding.planning import TokenEstimator
from streamer.embedding.text_batch import TextBatch, halves


def words(texts: object) -> list[int]:
    return [len(text.split()) for text in texts]  # type: ignore[attr-defined]


def test_sizes_are_in_bytes_and_tokens_are_the_estimators() -> None:
    batch = TextBatch(["a b c", "ü"], "query", TokenEstimator(words))
    assert (batch.sizes.tolist(), batch.tokens.tolist(), batch.longest) == ([5, 2], [3, 1], 5)
    assert batch.outcomes == [None, None]
    assert TextBatch([], "query", TokenEstimator()).longest == 0


def test_a_text_that_is_shortened_is_counted_anew_and_keeps_its_place() -> None:
    batch = TextBatch(["one", "two three four", "five"], "document", TokenEstimator(words))
    batch.shorten(1, "two")
    assert batch.texts == ["one", "two", "five"]
    assert (batch.sizes.tolist(), batch.tokens.tolist()) == ([3, 3, 4], [1, 1, 1])
    assert batch.shortened == {1}


@given(st.lists(st.integers(), min_size=2, max_size=50))
def test_halves_are_all_places_in_order_and_none_is_empty(places: list[int]) -> None:
    first, second = halves(places)
    assert first + second == places
    assert np.abs(len(first) - len(second)) <= 1
