"""How far a vector lies from everything recent: the mean distance to its nearest among the latest events.

Nearest among the latest few thousand events, not in the whole index: a fixed share of a window of fixed length means as
many neighbours for the first event as for the millionth, so that scores can be compared with each other. Strangers that
come in small numbers stay strange, because dozens of neighbours count; and a stream that changes for good is ordinary
again after one window.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix

WINDOW: Final = 4096
FEWEST: Final = 256  # events before the first score
_SHARE: Final = 0.02  # of the window that counts as nearest
_SLACK: Final = 512  # rows in the buffer besides the window: it is closed up once in so many events

# Vectors are rounded to multiples of 1/2048. Their products are then whole multiples of 2**-22 and, because no part of
# a product of unit vectors exceeds 1, float32 holds every partial sum exactly: a score is the same to the last bit
# however the events were cut into batches. The rounding moves a similarity by 2e-4.
_STEPS: Final = 2048.0


class AnomalyScorer:
    """The latest `window` ordinary vectors. Not safe for threads."""

    def __init__(self, dimensions: int, window: int = WINDOW) -> None:
        self._window = window
        # Component by component: BLAS need not transpose them for each product.
        self._columns: Matrix = np.empty((dimensions, window + _SLACK), np.float32)
        self._start = self._end = 0
        self._sum: NDArray[np.float64] = np.zeros(dimensions)
        self._accepted = 0
        self.background = 0.0
        """Mean cosine of two recent events; 0 at first. It tells what a model's cosines are worth."""

    def __len__(self) -> int:
        return self._end - self._start

    def state(self) -> tuple[Matrix, int, float]:
        """A copy of the rounded rows, oldest first, how many were accepted, and `background`."""
        return np.ascontiguousarray(self._recent().T), self._accepted, self.background

    def resume(self, rows: Matrix, accepted: int, background: float) -> None:
        """Go on from another one's state, with a window of the same length."""
        self._columns[:, : len(rows)] = rows.T
        self._start, self._end = 0, len(rows)
        self._sum = rows.sum(axis=0, dtype=np.float64)  # exact: whole numbers
        self._accepted, self.background = accepted, background

    def compare(self, vectors: Matrix) -> Comparison:
        """A batch of unit vectors, (n, dimensions), to be scored and accepted one after the other."""
        rows = np.rint(vectors * np.float32(_STEPS))
        return Comparison(self, rows, rows @ self._recent(), rows @ rows.T)

    def _recent(self) -> Matrix:
        """(dimensions, n), oldest first."""
        return self._columns[:, self._start : self._end]

    def append(self, row: NDArray[np.float32]) -> bool:
        """Take in a rounded row; whether the oldest one left for it."""
        if self._end == self._columns.shape[1]:
            kept = self._recent().copy()
            self._start, self._end = 0, kept.shape[1]
            self._recent()[:] = kept
        full = len(self) == self._window
        if full:
            self._sum -= self._columns[:, self._start]
            self._start += 1
        self._columns[:, self._end] = row
        self._end += 1
        self._sum += row
        self._accepted += 1
        if self._accepted % 64 == 0:
            count = len(self)
            self.background = float((self._sum @ self._sum / _STEPS**2 - count) / (count * (count - 1)))
        return full


class Comparison:
    """A batch against the window as it stands before each of its members."""

    def __init__(self, novelty: AnomalyScorer, rows: Matrix, products: Matrix, among: Matrix) -> None:
        self._anomalies = novelty
        self._rows = rows
        self._products = products
        self._among = among
        self._gone = 0
        self._taken: list[int] = []

    def score(self, member: int) -> float | None:
        """1 less the mean cosine with the nearest 2 % of the window, rounded; None while that is too small."""
        similar = np.concatenate((self._products[member], self._among[member, self._taken]))[self._gone :]
        if len(similar) < FEWEST:
            return None
        nearest = ceil(len(similar) * _SHARE)
        total = np.partition(similar, -nearest)[-nearest:].sum(dtype=np.float64)
        return round(1 - float(total) / nearest / _STEPS**2, 6)

    def accept(self, member: int) -> None:
        """Let a member into the window, for those behind it to be compared with."""
        self._taken.append(member)
        self._gone += self._anomalies.append(self._rows[member])
