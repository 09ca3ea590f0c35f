"""Unit vectors to test and to measure with: of noise, or spread like those of texts.

What is fetched from memory to find the nearest of a vector depends on how unevenly vectors extend. Those of 7,600 AG
News texts by all-MiniLM-L6-v2 have a mean of length 0.25, and their extents (squared) along their principal axes fall
by a factor of e every 75 of 384 axes. Theirs are copied here as a normal distribution, without its clusters: real
texts have closer neighbours, and are told apart from the rest faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix, normalize

_MEAN = 0.25
_FALL = 75 / 384  # of the axes


def noise(rng: np.random.Generator, count: int, dimensions: int) -> Matrix:
    """(count, dimensions), in all directions alike."""
    return normalize(rng.standard_normal((count, dimensions), dtype=np.float32))


def like_texts(rng: np.random.Generator, count: int, dimensions: int) -> Matrix:
    """(count, dimensions), with the principal axes of a text model, which lie anywhere."""
    return normalize(
        rng.standard_normal((count, dimensions), dtype=np.float32) @ _spread(dimensions) + _mean(dimensions)
    )


@cache
def _spread(dimensions: int) -> Matrix:
    squares = np.exp(-np.arange(dimensions) / (_FALL * dimensions))
    axes, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dimensions, dimensions)))
    extents = np.sqrt(squares * (1 - _MEAN**2) / squares.sum())
    spread: Matrix = (extents[:, None] * axes).astype(np.float32)
    return spread


@cache
def _mean(dimensions: int) -> NDArray[np.float32]:
    direction: Matrix = normalize(np.random.default_rng(1).standard_normal((1, dimensions)))
    mean: NDArray[np.float32] = direction[0] * np.float32(_MEAN)
    return mean


Maker: TypeAlias = Callable[[np.random.Generator, int, int], Matrix]
KINDS: Mapping[str, Maker] = {"texts": like_texts, "noise": noise}
