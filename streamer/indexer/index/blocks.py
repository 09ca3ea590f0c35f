"""Vectors by slot, laid out for products with a few queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Final, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix

WIDTH: Final = 2048  # slots in a block
_SINGLE: Final = 4  # queries up to which a product for each is faster than one for all: BLAS need not copy the vectors
_EDGE: Final = 4  # BLAS is slow at what is left over of a multiple of this
# So few queries wait for memory rather than for arithmetic, and a second core fetches as much again. More of them are
# a backlog: its products would keep that core from the event loop and from searches.
_SHARED: Final = 48
_PIECE: Final = 4  # blocks: whoever is slower takes fewer of these, and the next query finds them in the cache

Beside: TypeAlias = Callable[[Callable[[], object]], Callable[[], object]]
"""Submits work to a helper thread. The function it returns waits for the work, or cancels it if it has not started."""


def at_once(work: Callable[[], object]) -> Callable[[], object]:
    """Where there is no helper thread: the work is done before this returns."""
    done = work()
    return lambda: done


class Exact(Protocol):
    """Tells the products of queries and slots of which only bounds are known."""

    def some(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of some pairs, given by rows (ascending) and columns of the bounds."""

    def all(self) -> Matrix:
        """Of all pairs, but -inf where a bound has been set to that."""


class VectorStorage(Protocol):
    """A vector for each of so many slots. Two that are moved between have the same layout."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""

    @property
    def step(self) -> int:
        """Searches among as many slots at a time, from a multiple of this on, are the fastest."""

    def get(self, slots: NDArray[np.int64]) -> Matrix:
        """A copy of the vectors in these slots, (n, dimensions)."""

    def put(self, slots: NDArray[np.int64], vectors: Matrix) -> None: ...

    def compare(
        self, queries: Matrix, start: int, stop: int, beside: Beside | None = None
    ) -> tuple[Matrix, Exact | None]:
        """Each query with each of the slots `start` to `stop`, (n, stop - start): their products, or what these cannot
        exceed, and then who tells what they are.

        Exceed, that is, by more than the last bits of a float32 sum. With `beside`, some of the work is done there
        where that is worth while.
        """

    def move(self, source: NDArray[np.int64], target: Self, destination: NDArray[np.int64]) -> None:
        """Copy the vectors of `source` to `destination`, in order, into others or into these.

        Into these, no vector may move past one that has yet to be moved.
        """


class VectorBlocks:
    """A float32 vector for each of so many slots, zero at first.

    They lie in blocks of 2,048, component by component: (dimensions, 2048) each. With vectors one after the other,
    BLAS would have to transpose all of them for each product, which costs as much as multiplying with 20 queries does:
    100,000 x 384 with 1, 16 and 64 queries takes 8, 25 and 66 ms of one core, and 12, 36 and 78 ms that way.
    """

    def __init__(self, slots: int, dimensions: int) -> None:
        self._slots = slots
        self._dimensions = dimensions
        self._width = min(WIDTH, slots)
        whole, rest = divmod(slots, self._width)
        # One array, not one for each block: that gives its memory back as a whole, and takes none before it is written.
        self._whole = np.zeros((whole, dimensions, self._width), np.float32)
        self._blocks: list[Matrix] = [*self._whole]
        if rest:
            self._blocks.append(np.zeros((dimensions, rest), np.float32))

    def __len__(self) -> int:
        return self._slots

    @property
    def nbytes(self) -> int:
        """See VectorStorage."""
        return 4 * self._slots * self._dimensions

    @property
    def step(self) -> int:
        """See VectorStorage."""
        return self._width

    def get(self, slots: NDArray[np.int64]) -> Matrix:
        """See VectorStorage."""
        found = np.empty((len(slots), self._dimensions), np.float32)
        if len(slots) and (np.diff(slots) == 1).all():
            for start, stop in self._runs(slots):
                found[start:stop] = self._part(slots[start], stop - start).T
            return found
        # Block by block, component by component: what lies in a block side by side is fetched once.
        order = np.argsort(slots, kind="stable")
        blocks, columns = np.divmod(slots[order], self._width)
        edges = np.searchsorted(blocks, np.arange(len(self._blocks) + 1)).tolist()
        for block, (first, last) in zip(self._blocks, pairwise(edges), strict=True):
            if first < last:
                found[order[first:last]] = block.take(columns[first:last], axis=1).T
        return found

    def put(self, slots: NDArray[np.int64], vectors: Matrix) -> None:
        for start, stop in self._runs(slots):
            self._part(slots[start], stop - start)[:] = vectors[start:stop].T

    def move(self, source: NDArray[np.int64], target: VectorBlocks, destination: NDArray[np.int64]) -> None:
        """See VectorStorage."""
        for start, stop in self._runs(source):
            for first, last in target._runs(destination[start:stop]):
                part = self._part(source[start + first], last - first)
                target._part(destination[start + first], last - first)[:] = part

    def _runs(self, slots: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Where in `slots` pieces begin and end that lie side by side in one block."""
        breaks = (np.diff(slots) != 1) | (slots[1:] % self._width == 0)
        return pairwise([0, *(np.flatnonzero(breaks) + 1).tolist(), len(slots)] if len(slots) else [0])

    def _part(self, slot: np.int64, count: int) -> Matrix:
        """(dimensions, count), of a run."""
        block, column = divmod(int(slot), self._width)
        return self._blocks[block][:, column : column + count]

    def compare(
        self, queries: Matrix, start: int, stop: int, beside: Beside | None = None
    ) -> tuple[Matrix, Exact | None]:
        """See VectorStorage."""
        return self.products(queries, start, stop, beside), None

    def products(self, queries: Matrix, start: int, stop: int, beside: Beside | None = None) -> Matrix:
        """Of each query with each of the slots `start` to `stop`, (n, stop - start).

        With `beside`, some of it is done there where that is worth while.
        """
        count = len(queries)
        if count > _SINGLE and count % _EDGE:
            queries = np.pad(queries, ((0, _EDGE - count % _EDGE), (0, 0)))
        scores = np.empty((len(queries), stop - start), np.float32)
        at = start
        while at < stop:
            block, column = divmod(at, self._width)
            blocks = min(stop // self._width, len(self._whole)) - block
            if blocks > 1 and not column:
                end = at + blocks * self._width
                vectors = self._whole[block : block + blocks]
                out = np.moveaxis(scores[:, at - start : end - start].reshape(-1, blocks, self._width), 0, 1)
            else:
                end = min(stop, (block + 1) * self._width)
                vectors = self._blocks[block][None, :, column : column + end - at]
                out = scores[None, :, at - start : end - start]
            if beside is not None and count <= _SHARED and len(vectors) > _PIECE:
                work = partial(_work_off, iter(range(0, len(vectors), _PIECE)), queries, vectors, out)
                wait = beside(work)
                work()
                wait()
            elif 1 < count <= _SINGLE:
                _work_off(iter(range(0, len(vectors), _PIECE)), queries, vectors, out)
            else:
                # In one call: after each there is the interpreter's lock to wait for.
                np.matmul(queries, vectors, out=out)
            at = end
        return scores[:count]


def _work_off(pieces: Iterator[int], queries: Matrix, vectors: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Products with the blocks of some of the pieces, which others work off at the same time."""
    for first in pieces:
        piece = slice(first, first + _PIECE)
        if len(queries) > _SINGLE:
            np.matmul(queries, vectors[piece], out=out[piece])
        else:
            for i, query in enumerate(queries):
                np.matmul(query, vectors[piece], out=out[piece, i])
