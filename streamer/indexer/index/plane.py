"""Vectors on a plane, for people to look at: where recent ones lie along the two axes on which they differ most."""

from __future__ import annotations

from typing import Final

import numpy as np

from streamer.core.vectors import Matrix

_SOUGHT: Final = 4  # axes looked for together, so that the first two are found soon
_ROUNDS: Final = 12
_NEXT_ROUNDS: Final = 3  # from where the last ones were


class Plane:
    """Follows the stream: each placement begins with the axes of the last one and is turned to fit them, so that what
    stays moves little. The axes go through the mean of what is placed, and only the plane they span has a meaning."""

    def __init__(self) -> None:
        self._found: Matrix | None = None  # (dimensions, up to _SOUGHT)
        self._axes: Matrix | None = None  # (dimensions, 2)

    def place(self, rows: Matrix) -> tuple[Matrix, float]:
        """Coordinates (n, 2) of rows (n, dimensions), and the share of their variance that lies in the plane.

        All zero for fewer than three rows, and where all are the same.
        """
        count, dimensions = rows.shape
        centred = rows - rows.mean(axis=0) if count else rows
        total = float(np.square(centred).sum())
        if count < 3 or dimensions < 2 or total <= 1e-9 * count:
            return np.zeros((count, 2), np.float32), 0.0
        found, axes = self._found, self._axes
        known = found is not None and found.shape[0] == dimensions
        width = min(_SOUGHT, dimensions)
        if not known or found is None or axes is None or found.shape[1] != width:
            axes = None
            found = np.random.default_rng(0).standard_normal((dimensions, width)).astype(np.float32)
        for _ in range(_ROUNDS if axes is None else _NEXT_ROUNDS):
            found, _ = np.linalg.qr(centred.T @ (centred @ found))
        _, sizes, turn = np.linalg.svd(centred @ found, full_matrices=False)
        latest = found @ turn[:2].T
        if axes is not None:
            # Of all turns and reflections within the plane, the one that comes nearest to the last axes.
            left, _, right = np.linalg.svd(latest.T @ axes)
            latest = latest @ (left @ right)
        self._found, self._axes = found, latest
        placed: Matrix = (centred @ latest).astype(np.float32)
        return placed, float(np.square(sizes[:2]).sum() / total)
