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
    stored one by one, each with its length behind it, because few of them are looked at: where memory is large, most of
    what such a look costs is getting there. Meant for coordinates in which rests are short, see Basis.
    """

    def __init__(self, slots: int, dimensions: int, leading: int) -> None:
        self.leading = leading
        self._first = VectorBlocks(slots, leading + 1)
        self._rests: Matrix = np.zeros((slots, dimensions - leading + 1), np.float32)

    def __len__(self) -> int:
        return len(self._first)

    @property
    def nbytes(self) -> int:
        """See VectorStorage."""
        return self._first.nbytes + self._rests.nbytes

    @property
    def step(self) -> int:
        """See VectorStorage."""
        return self._first.step

    def get(self, slots: NDArray[np.int64]) -> Matrix:
        """See VectorStorage."""
        return np.concatenate((self._first.get(slots)[:, : self.leading], self._rests[slots][:, :-1]), axis=1)

    def put(self, slots: NDArray[np.int64], vectors: Matrix) -> None:
        rests = vectors[:, self.leading :]
        lengths = _lengths(rests)
        self._first.put(slots, self._with(vectors, lengths))
        self._rests[slots] = np.concatenate((rests, lengths), axis=1)

    def move(self, source: NDArray[np.int64], target: SplitBlocks, destination: NDArray[np.int64]) -> None:
        """See VectorStorage."""
        self._first.move(source, target._first, destination)
        for start in range(0, len(source), _CHUNK):
            old, new = source[start : start + _CHUNK], destination[start : start + _CHUNK]
            target._rests[new] = self._rests[old]

    def compare(
        self, queries: Matrix, start: int, stop: int, beside: Beside | None = None
    ) -> tuple[Matrix, Exact | None]:
        """See VectorStorage."""
        rests = queries[:, self.leading :]
        lengths = _lengths(rests)
        bounds = self._first.products(self._with(queries, lengths), start, stop, beside)
        return bounds, _Rests(bounds, np.concatenate((rests, -lengths), axis=1), self._rests[start:stop])

    def _with(self, vectors: Matrix, lengths: Matrix) -> Matrix:
        """Their leading components and the length of the rest."""
        return np.concatenate((vectors[:, : self.leading], lengths), axis=1)


def _lengths(rests: Matrix) -> Matrix:
    """(n, 1)."""
    lengths: Matrix = np.sqrt(np.einsum("ij,ij->i", rests, rests))[:, None]
    return lengths


@dataclass(frozen=True, slots=True)
class _Rests:
    """What turns bounds into products: the rests of rows with their lengths, and those of queries with theirs below
    zero, so that a product of the two takes back what the lengths have added."""

    bounds: Matrix
    queries: Matrix
    rows: Matrix

    def some(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        differences = np.empty(len(rows), np.float32)
        edges = np.searchsorted(rows, np.arange(len(self.queries) + 1)).tolist()
        for query, (first, last) in zip(self.queries, pairwise(edges), strict=True):
            if first < last:
                differences[first:last] = self.rows[columns[first:last]] @ query
        return self.bounds[rows, columns] + differences

    def all(self) -> Matrix:
        products = self.queries @ self.rows.T
        products += self.bounds
        return products
