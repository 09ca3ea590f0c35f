"""The best rows out of blocks of scores, or out of bounds of them, against sorting it all."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.indexer.index import top_k


def test_of_tied_rows_the_earliest_stay_when_a_better_one_arrives() -> None:
    last_bits = np.array([0, -3, 3, 1, -2, 2], np.float32) * np.float32(2.0**-24)
    for tied in permutations(np.float32(0.75) + last_bits, 4):
        scores = np.array([[0.5, *tied[:3], 0.9, tied[3], 0.6]], np.float32)
        for cut in range(8):
            best = top_k.Best(1, 3)
            for start, part in ((0, scores[:, :cut]), (cut, scores[:, cut:])):
                if part.size:
                    best.offer(part, start)
            assert best.positions[0, 0] == 4
            assert sorted(best.positions[0, 1:].tolist()) == [1, 2]


@pytest.mark.slow
def test_few_rows_are_ranked_where_each_is_better_than_the_one_before() -> None:
    best, better = top_k.Best(8, 5), np.linspace(0.5, 0.9, 8192, dtype=np.float32)
    with patch.object(best, "_enter", wraps=best._enter) as enter:
        best.offer(np.tile(better - 0.5, (8, 1)), 0)
        best.offer(np.tile(better, (8, 1)), 8192)
    assert (best.positions == 2 * 8192 - 1 - np.arange(5)).all()
    assert enter.call_count <= 2 * 8 * 8192 * (5 + 1) / (8 * 5)  # k pieces of 8 k, and what is left over


class Known(NamedTuple):
    """Scores for whoever asks, and how many were asked for."""

    scores: NDArray[np.float32]
    asked: list[int]

    def some(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        self.asked.append(len(rows))
        return self.scores[rows, columns]

    def all(self) -> NDArray[np.float32]:
        self.asked.append(self.scores.size)
        return self.scores


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.lists(st.integers(1, 900), min_size=1, max_size=6),
    st.floats(0, 1),
    st.sampled_from([0.0, 1 / 64, 1.0]),
)
def test_the_best_are_found_by_what_scores_cannot_exceed(
    seed: int, k: int, lengths: list[int], slack: float, many: float
) -> None:
    rng = np.random.default_rng(seed)
    plain, bounded, start = top_k.Best(3, k), top_k.Best(3, k), 0
    with patch.object(top_k, "_MANY", many):
        for length in lengths:
            scores = rng.integers(-40, 40, (3, length)).astype(np.float32) / np.float32(64)  # with many ties
            scores[rng.random(scores.shape) < 0.1] = -np.inf  # dead
            bounds = scores + np.float32(slack) * rng.random(scores.shape, np.float32)
            plain.offer(scores.copy(), start)
            bounded.offer_bounds(bounds, start, Known(scores, []))
            start += length
    assert bounded.positions.tolist() == plain.positions.tolist()


def test_few_scores_are_asked_for_where_bounds_tell() -> None:
    rng, asked = np.random.default_rng(0), list[int]()
    best = top_k.Best(4, 5)
    for start in range(0, 80_000, 8000):
        scores = rng.normal(0, 0.1, (4, 8000)).astype(np.float32)
        best.offer_bounds(scores + np.float32(0.05), start, Known(scores, asked))
    assert sum(asked) < 0.005 * 4 * 80_000


def test_a_few_pairs_in_a_hundred_are_asked_for_one_by_one() -> None:
    """As with the 16 neighbours that a verdict looks at among texts: all scores at once would double the products."""
    scores, asked = np.random.default_rng(0).normal(0, 0.1, (12, 8000)).astype(np.float32), list[int]()
    top_k.Best(12, 16).offer_bounds(scores + np.float32(0.1), 0, Known(scores, asked))
    assert 0.02 * scores.size < max(asked) < 0.06 * scores.size


def test_all_scores_are_asked_for_at_once_where_bounds_tell_little() -> None:
    scores = np.random.default_rng(0).normal(0, 0.1, (4, 8000)).astype(np.float32)
    asked = list[int]()
    top_k.Best(4, 5).offer_bounds(scores + np.float32(0.3), 0, Known(scores, asked))
    assert asked[-1] == scores.size
    assert sum(asked[:-1]) < 0.02 * scores.size
