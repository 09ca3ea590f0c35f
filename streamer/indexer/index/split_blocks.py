"""Vectors by slot, most of which can be told apart by their leading components."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix
from streamer.indexer.index.blocks import Beside, Exact, VectorBlocks

_CHUNK: Final = 1024


class SplitBlocks:
    """Like `VectorBlocks`, about half of which has to be fetched for a search.

    The `leading` components lie as in `VectorBlocks`, followed by the length of the rest: with a query's own as one
    more component, a product is the most that the whole product can be (Cauchy and Schwarz). The rests are
    stored one by one, because few of them are looked at. Meant for coordinates in which rests are short, see Basis.
    """

    def __init__(self, slots: int, dimensions: int, leading: int) -> None:
        self.leading = leading
        self._first = VectorBlocks(slots, leading + 1)
        self._rests: Matrix = np.zeros((slots, dimensions - leading), np.float32)
        self._lengths: NDArray[np.float32] = np.zeros(slots, np.float32)  # of the rests, side by side once more

    def __len__(self) -> int:
        return len(self._first)

    @property
    def nbytes(self) -> int:
        """See VectorStorage."""
        return self._first.nbytes + self._rests.nbytes + self._lengths.nbytes

    @property
    def step(self) -> int:
        """See VectorStorage."""
        return self._first.step

    def get(self, slots: NDArray[np.int64]) -> Matrix:
        """See VectorStorage."""
        return np.concatenate((self._first.get(slots)[:, : self.leading], self._rests[slots]), axis=1)

    def put(self, slots: NDArray[np.int64], vectors: Matrix) -> None:
        first = self._begin(vectors)
        self._first.put(slots, first)
        self._lengths[slots] = first[:, self.leading]
        self._rests[slots] = vectors[:, self.leading :]

    def move(self, source: NDArray[np.int64], target: SplitBlocks, destination: NDArray[np.int64]) -> None:
        """See VectorStorage."""
        self._first.move(source, target._first, destination)
        for start in range(0, len(source), _CHUNK):
            old, new = source[start : start + _CHUNK], destination[start : start + _CHUNK]
            target._rests[new] = self._rests[old]
            target._lengths[new] = self._lengths[old]

    def compare(
        self, queries: Matrix, start: int, stop: int, beside: Beside | None = None
    ) -> tuple[Matrix, Exact | None]:
        """See VectorStorage."""
        first = self._begin(queries)
        bounds = self._first.products(first, start, stop, beside)
        rests = queries[:, self.leading :]
        return bounds, _Rests(bounds, rests, first[:, self.leading], self._rests[start:stop], self._lengths[start:stop])

    def _begin(self, vectors: Matrix) -> Matrix:
        """Their leading components and the length of the rest."""
        lengths = _lengths(vectors[:, self.leading :])
        return np.concatenate((vectors[:, : self.leading], lengths[:, None]), axis=1)


def _lengths(rests: Matrix) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", rests, rests))
    return lengths


@dataclass(frozen=True, slots=True)
class _Rests:
    """What turns bounds into products: the rests of queries and of rows, and their lengths."""

    bounds: Matrix
    queries: Matrix
    own: NDArray[np.float32]
    rows: Matrix
    lengths: NDArray[np.float32]

    def some(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        common = np.empty(len(rows), np.float32)
        edges = np.searchsorted(rows, np.arange(len(self.queries) + 1)).tolist()
        for query, (first, last) in zip(self.queries, pairwise(edges), strict=True):
            if first < last:
                common[first:last] = self.rows[columns[first:last]] @ query
        return self.bounds[rows, columns] + (common - self.own[rows] * self.lengths[columns])

    def all(self) -> Matrix:
        common = self.queries @ self.rows.T
        common -= np.multiply.outer(self.own, self.lengths)
        common += self.bounds
        return common
