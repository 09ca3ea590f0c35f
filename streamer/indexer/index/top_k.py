"""The rows most similar to each of several queries, out of their products."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import pairwise
from math import inf
from operator import itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.indexer.index.blocks import Exact

# Two rows whose float32 products with a query differ by no more than this count as tied. BLAS sums a row in another
# order depending on where in the matrix it lies and on how many queries share the product, so that two copies of one
# vector score up to 4.8e-7 apart (OpenBLAS, 96 to 3072 dimensions, every way of `VectorBlocks.products`); without the
# margin the earliest of several copies would be found by luck.
RESOLUTION: Final = 2.0**-20

# Of the pairs: beyond, the scores of all in one product cost less than those of some, one by one. The two cost the same
# at 1/18 of the pairs with 64 queries, at 1/9 with 12 and at 1/4 with 4.
_MANY: Final = 1 / 16
# One in so many columns is compared in full before it is known which others have to be: of a million, 61 for 5 wanted
# ones, which leaves 450 in place of 640.
_AHEAD: Final = 1 << 14


class Best:
    """The `k` best scores so far of each of `count` queries, from blocks offered in order of arrival."""

    def __init__(self, count: int, k: int) -> None:
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        self._k = k
        self._ranked: list[list[tuple[float, int]]] = [[] for _ in range(count)]  # (-score, position), best first
        self._bar: NDArray[np.float32] = np.full(count, -np.inf, np.float32)  # what a score must exceed

    @property
    def positions(self) -> NDArray[np.int64]:
        """(count, k), best first, -1 where there was nothing more."""
        rows = [[position for _, position in ranked] + [-1] * (self._k - len(ranked)) for ranked in self._ranked]
        return np.array(rows, np.int64).reshape(len(rows), self._k)

    def offer(self, scores: NDArray[np.float32], start: int) -> None:
        """Column j of `scores` belongs to position `start` + j."""
        # One pass for the largest of each row is nearly free beside the product, and after a few blocks that is all:
        # selecting or sorting (argpartition) costs as much as a third of the product.
        better = np.flatnonzero(scores.max(axis=1) > self._bar)
        if better.size < len(scores):
            scores = scores[better]
        if not better.size:
            return
        bar = self._bar[better]
        above = scores > bar[:, None]
        if np.count_nonzero(above) > 8 * self._k * len(scores):  # no bar yet, or one of unlike rows
            above = scores > np.maximum(bar, self._surpassed(scores, self._k))[:, None]
        rows, columns = _pairs(above)
        self._take(better[rows], columns, scores[rows, columns], start)

    def offer_bounds(self, bounds: NDArray[np.float32], start: int, exact: Exact) -> None:
        """Like `offer`, where it is not known what the scores are, but what they cannot exceed.

        But for last bits: by less than RESOLUTION.
        """
        bar = self._bar
        above = None if np.isneginf(bar).any() else bounds > bar[:, None] - 2 * RESOLUTION
        if above is None or np.count_nonzero(above) > 32 * self._k * len(bounds):  # no bar yet, or one of unlike rows
            ahead = max(self._k, bounds.shape[1] // _AHEAD)
            rows, columns = _pairs(bounds > self._surpassed(bounds, ahead)[:, None])
            if len(rows) <= bounds.size * _MANY:
                surpassed = _kth(exact.some(rows, columns), rows, self._k, len(bounds)) - np.float32(2 * RESOLUTION)
                bar = np.maximum(bar, surpassed)
            above = bounds > bar[:, None] - 2 * RESOLUTION
            if np.count_nonzero(above) > bounds.size * _MANY:
                self.offer(exact.all(), start)
                return
        rows, columns = _pairs(above)
        if rows.size:
            scores = exact.some(rows, columns)
            better = scores > bar[rows]
            self._take(rows[better], columns[better], scores[better], start)

    def _take(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], scores: NDArray[np.float32], start: int
    ) -> None:
        bars = self._bar.tolist()
        for query, column, score in zip(rows.tolist(), columns.tolist(), scores.tolist(), strict=True):
            if score > bars[query]:
                bars[query] = self._enter(self._ranked[query], score, start + column)
        self._bar[:] = bars

    def _enter(self, ranked: list[tuple[float, int]], score: float, position: int) -> float:
        """The new bar."""
        insort(ranked, (-score, position))
        if len(ranked) > self._k:
            # Of those that are tied with the worst, the latest has to go, whichever scores least by a last bit.
            limit = ranked[-1][0] - RESOLUTION
            if ranked[-2][0] < limit:
                ranked.pop()
            else:
                ranked.remove(max(ranked[bisect_left(ranked, (limit, 0)) :], key=itemgetter(1)))
        return RESOLUTION - ranked[-1][0] if len(ranked) == self._k else -inf

    @staticmethod
    def _surpassed(scores: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """Per query, a score that `count` of these clearly exceed: the `count`-th largest of the maxima of pieces."""
        pieces = 8 * count
        length = scores.shape[1] // pieces
        if not length:
            return np.full(len(scores), -np.inf, np.float32)
        maxima = scores[:, : pieces * length].reshape(len(scores), pieces, length).max(axis=2)
        bar: NDArray[np.float32] = np.partition(maxima, -count, axis=1)[:, -count] - np.float32(2 * RESOLUTION)
        return bar


def _pairs(chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of what is true, row by row."""
    return np.divmod(np.flatnonzero(chosen), chosen.shape[1])


def _kth(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int, count: int) -> NDArray[np.float32]:
    """The k-th largest of the scores of each of `count` rows, -inf where there are fewer."""
    found = np.full(count, -np.inf, np.float32)
    edges = np.searchsorted(rows, np.arange(count + 1)).tolist()
    for row, (first, last) in enumerate(pairwise(edges)):
        if last - first >= k:
            found[row] = np.partition(scores[first:last], -k)[-k]
    return found
