"""The mean cosine of two recent events: what a model's cosines are worth."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix

WINDOW: Final = 2048
_OFTEN: Final = 64  # events after which it is looked at again

# Vectors are rounded to multiples of 1/2048, so that sums are exact and the same however a stream is cut.
_STEPS: Final = 2048.0


class Background:
    """The latest `window` ordinary vectors, and the mean cosine of two of them as `value`, 0 at first."""

    def __init__(self, dimensions: int, window: int = WINDOW) -> None:
        self.value = 0.0
        self._rows: Matrix = np.zeros((window, dimensions), np.float32)
        self._sum: NDArray[np.float64] = np.zeros(dimensions)
        self._taken = 0

    def __len__(self) -> int:
        return min(self._taken, len(self._rows))

    def state(self) -> tuple[Matrix, int, float]:
        """A copy of the rounded rows, oldest first, how many were taken in, and `value`."""
        start = self._taken % len(self._rows)
        rows = self._rows[: self._taken] if self._taken < len(self._rows) else np.roll(self._rows, -start, axis=0)
        return rows.copy(), self._taken, self.value

    def resume(self, rows: Matrix, taken: int, value: float) -> None:
        """Go on from another one's state, with a window of the same length."""
        if len(rows) != min(taken, len(self._rows)):
            raise ValueError(f"{len(rows)} recent vectors of {taken} do not fit a window of {len(self._rows)}")
        self._rows[(np.arange(taken - len(rows), taken)) % len(self._rows)] = rows
        self._sum = rows.sum(axis=0, dtype=np.float64)
        self._taken, self.value = taken, value

    def add(self, vector: NDArray[np.float32]) -> None:
        """Take in the vector of an ordinary event."""
        row = np.rint(vector * np.float32(_STEPS))
        slot = self._taken % len(self._rows)
        self._sum += row - self._rows[slot]
        self._rows[slot] = row
        self._taken += 1
        if self._taken % _OFTEN == 0:
            count = len(self)
            self.value = float((self._sum @ self._sum / _STEPS**2 - count) / (count * (count - 1)))
