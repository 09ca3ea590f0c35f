"""The rows most similar to each of several queries: their products, and the best of these."""

from __future__ import annotations

from bisect import bisect_left, insort
from operator import itemgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix

# Two rows whose float32 products with a query differ by no more than this count as tied. BLAS sums a row in another
# order depending on where in the matrix it lies and on how many queries share the product, so that two copies of one
# vector score up to 4.8e-7 apart (OpenBLAS, 96 to 3072 dimensions, every way of `products`); without the margin the
# earliest of several copies would be found by luck.
RESOLUTION: Final = 2.0**-20

_ROWS: Final = 2048  # per product of matrices: what BLAS packs of them stays in the cache as well
_FEW: Final = 6  # queries for which a product of matrices does not pay, see `products`
_SHORT: Final = 768  # dimensions up to which this holds for a single query, too


def products(queries: Matrix, rows: Matrix) -> Matrix:
    """(n, rows): BLAS packs a matrix anew for each product, which only many queries make up for.

    100,000 x 384, one thread: 2 queries take 30 ms as a product of matrices and 13 ms as dot products of rows (that lie
    in the cache from the first query to the last), 6 take 36 and 21, 12 take 44 and 52. One query: 9 ms, and 12 as a
    matrix times a vector, which from 1,024 dimensions on is the faster one.
    """
    scores: Matrix
    if len(queries) > _FEW:
        scores = np.empty((len(queries), len(rows)), np.float32)
        for start in range(0, len(rows), _ROWS):
            np.matmul(queries, rows[start : start + _ROWS].T, out=scores[:, start : start + _ROWS])
    elif len(queries) == 1 and queries.shape[1] > _SHORT:
        scores = (rows @ queries[0])[None]
    else:
        scores = np.ascontiguousarray(np.vecdot(rows[:, None], queries).T)
    return scores


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
        bar = np.maximum(self._bar[better], self._surpassed(scores))
        rows, columns = np.divmod(np.flatnonzero(scores > bar[:, None]), scores.shape[1])
        chosen = zip(better[rows].tolist(), columns.tolist(), scores[rows, columns].tolist(), strict=True)
        for query, column, score in chosen:
            if score > self._bar[query]:
                self._enter(query, score, start + column)

    def _enter(self, query: int, score: float, position: int) -> None:
        ranked = self._ranked[query]
        insort(ranked, (-score, position))
        if len(ranked) > self._k:
            # Of those that are tied with the worst, the latest has to go, whichever scores least by a last bit.
            tied = bisect_left(ranked, (ranked[-1][0] - RESOLUTION, 0))
            ranked.remove(max(ranked[tied:], key=itemgetter(1)))
        if len(ranked) == self._k:
            self._bar[query] = RESOLUTION - ranked[-1][0]

    def _surpassed(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Per query, a score that `k` of these clearly exceed: the k-th largest of the maxima of short pieces."""
        pieces = 8 * self._k
        length = scores.shape[1] // pieces
        if not length:
            return np.full(len(scores), -np.inf, np.float32)
        maxima = scores[:, : pieces * length].reshape(len(scores), pieces, length).max(axis=2)
        bar: NDArray[np.float32] = np.partition(maxima, -self._k, axis=1)[:, -self._k] - np.float32(2 * RESOLUTION)
        return bar
