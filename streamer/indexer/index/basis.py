"""Coordinates in which the first few of a vector's components tell nearly all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.projection import principal_axes
from streamer.core.vectors import Matrix
from streamer.indexer.index.blocks import Beside, VectorStorage, at_once

# Turning a vector costs dimensions squared, and finding the axes dimensions cubed: all of it takes 0.05 s for 4,096
# vectors of 384 dimensions, and 9 s in one thread for 16,384 of so many.
LONGEST: Final = 2048
FITTED: Final = 10  # times as many vectors as dimensions tell the axes; more hardly change them
# That the trial looks for, among fewer vectors than there will be: the fourth of 4,096 is the hundredth of 100,000.
# With more, it takes the nearest for farther away than they are, and more components to tell them.
_NEIGHBOURS: Final = 4
_QUERIES: Final = 64
_OTHERS: Final = 1024
# What it costs to look at the rest of one pair, in products of whole vectors of many pairs.
_REST: Final = 20.0
_WORTHWHILE: Final = 0.85  # of what the products of whole vectors cost
_PIECE: Final = 256  # vectors at a time: what is made of more would stay with the process


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """`axes`: (dimensions, dimensions) orthonormal rows, so that inner products are the same in both coordinates.

    `leading`: with how many of the components a comparison begins.
    """

    axes: NDArray[np.float64]
    leading: int

    def into(self, vectors: Matrix) -> Matrix:
        """Vectors (n, dimensions) in these coordinates."""
        # In float64, so that a vector's components do not depend on those it comes with but for one in a billion.
        # All in one call: after each there is the interpreter's lock to wait for.
        turned = np.empty(vectors.shape, np.float32)
        return np.matmul(vectors, self.axes.T, out=turned, dtype=np.float64, casting="same_kind")

    def back(self, turned: Matrix) -> Matrix:
        """The vectors that these were, (n, dimensions), to the last bit or two."""
        return (turned.astype(np.float64) @ self.axes).astype(np.float32)


def find_basis(rows: VectorStorage, slots: NDArray[np.int64], beside: Beside = at_once) -> Basis | None:
    """The principal axes of the unit vectors in these slots, None where they would not make searches faster.

    They are tried: for some of the vectors, how many others have so much in common with it by their leading components
    that they might be among its nearest. Vectors that extend equally far in all directions have no axes that tell more
    than others, those of texts do. `beside`: where half of the work is done.
    """
    pieces = [slots[start : start + _PIECE] for start in range(0, len(slots), _PIECE)]
    queries, others = (rows.get(slots[:: -(-len(slots) // most)]) for most in (_QUERIES, _OTHERS))
    found: list[Matrix] = []
    wait = beside(lambda: found.append(_bars(queries, rows, pieces)))
    dimensions = queries.shape[1]
    moments = np.zeros((dimensions, dimensions))
    for piece in pieces[:: max(1, len(slots) // (FITTED * dimensions))]:
        some = rows.get(piece)
        moments += some.T @ some  # their last bits move the axes a little, and leave them orthonormal
    basis = Basis(principal_axes(moments)[1], dimensions)
    wait()
    bars = found[0] if found else _bars(queries, rows, pieces)
    costs = _costs(basis.into(queries), basis.into(others), bars)
    cheapest = min(costs, key=costs.__getitem__, default=dimensions)
    return Basis(basis.axes, cheapest) if costs.get(cheapest, 1) < _WORTHWHILE else None


def _bars(queries: Matrix, rows: VectorStorage, pieces: Sequence[NDArray[np.int64]]) -> Matrix:
    """What a product with each of the queries must exceed to be among its largest, (n, 1)."""
    count = _NEIGHBOURS + 1  # one more than that, which is the query itself
    best: Matrix = np.empty((len(queries), 0), np.float32)
    for piece in pieces:
        best = np.concatenate((best, queries @ rows.get(piece).T), axis=1)
        best = np.partition(best, -min(count, best.shape[1]), axis=1)[:, -count:]
    bars: Matrix = best.min(axis=1, keepdims=True)
    return bars


def _costs(queries: Matrix, others: Matrix, bars: Matrix) -> dict[int, float]:
    """By the number of leading components, what a search costs that begins with these, in products of whole vectors."""
    dimensions = queries.shape[1]
    step = max(1, dimensions // 16)
    edges = list(range(max(1, dimensions // 4), dimensions, step))
    if not edges:
        return {}
    own, theirs = _rests(queries, edges), _rests(others, edges)
    costs, products, start = {}, np.zeros((len(queries), len(others)), np.float32), 0
    for i, leading in enumerate(edges):
        products += queries[:, start:leading] @ others[:, start:leading].T
        # Their whole products cannot exceed that (Cauchy and Schwarz).
        looked_at = (products + np.outer(own[i], theirs[i]) > bars).mean()
        costs[leading], start = leading / dimensions + _REST * float(looked_at), leading
    return costs


def _rests(rows: Matrix, edges: Sequence[int]) -> Matrix:
    """The lengths of what lies beyond each of the edges, (edges, n)."""
    squares = np.add.reduceat(rows * rows, edges, axis=1)
    lengths: Matrix = np.sqrt(squares[:, ::-1].cumsum(axis=1)[:, ::-1]).T
    return lengths
