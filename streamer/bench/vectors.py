"""Unit vectors to measure and to test with: of noise, or like those of texts.

What is fetched from memory to find the nearest of a vector depends on how unevenly vectors extend, and on how near its
nearest are. Those of texts copy 7,600 AG News texts by all-MiniLM-L6-v2: a mean of length 0.25, the same extents along
the principal axes, subjects of which a few are common and many are rare, and stories of four texts.

| among 7,600 | the texts | these |
|---|---|---|
| mean cosine with the nearest, 2nd, 5th, 8th | 0.62 0.56 0.50 0.47 | 0.61 0.56 0.50 0.47 |
| % left in question by 128, 144, 168, 192 components | 3.5 1.9 0.8 0.4 | 3.4 1.9 0.8 0.4 |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix, unit_rows

_MEAN = 0.25
# Extents along the axes, squared: at so much of all axes, and geometrically in between.
_AXES = (0.0, 0.13, 0.26, 0.52, 0.78, 1.0)
_EXTENTS = (1.3e-2, 5.2e-3, 3.0e-3, 1.2e-3, 2.5e-4, 3e-5)
_SUBJECTS = 100  # the n-th of them has 1/n of the texts of the first
_STORY = 4  # texts in the mean
_SHARED = (0.3, 0.2)  # of a text's variance: with others of its subject, and of its story; in the mean


def noise(rng: np.random.Generator, count: int, dimensions: int) -> Matrix:
    """(count, dimensions), in all directions alike."""
    return unit_rows(rng.standard_normal((count, dimensions), dtype=np.float32))


def like_texts(rng: np.random.Generator, count: int, dimensions: int) -> Matrix:
    """(count, dimensions), with the principal axes of a text model, which lie anywhere."""
    stories = -(-count // _STORY)
    shares = 1 / np.arange(1, _SUBJECTS + 1)
    subjects = rng.choice(_SUBJECTS, stories, p=shares / shares.sum())
    told = rng.integers(0, stories, count)
    # Some are close to what others say, some far.
    closeness = np.minimum(2 * rng.beta(3, 3, (count, 1)), 1.9).astype(np.float32)
    of_subject, of_story = (np.float32(share) * closeness for share in _SHARED)
    texts: Matrix = (
        np.sqrt(of_subject) * _subjects(dimensions)[subjects[told]]
        + np.sqrt(of_story) * _spread_out(rng, stories, dimensions)[told]
        + np.sqrt(1 - of_subject - of_story) * _spread_out(rng, count, dimensions)
    )
    return unit_rows(texts + _mean(dimensions))


@cache
def _subjects(dimensions: int) -> Matrix:
    return _spread_out(np.random.default_rng(2), _SUBJECTS, dimensions)


def _spread_out(rng: np.random.Generator, count: int, dimensions: int) -> Matrix:
    spread: Matrix = rng.standard_normal((count, dimensions), dtype=np.float32) @ _spread(dimensions)
    return spread


@cache
def _spread(dimensions: int) -> Matrix:
    squares = np.exp(np.interp(np.linspace(0, 1, dimensions), _AXES, np.log(_EXTENTS)))
    axes, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dimensions, dimensions)))
    extents = np.sqrt(squares * (1 - _MEAN**2) / squares.sum())
    spread: Matrix = (extents[:, None] * axes).astype(np.float32)
    return spread


@cache
def _mean(dimensions: int) -> NDArray[np.float32]:
    direction: Matrix = unit_rows(np.random.default_rng(1).standard_normal((1, dimensions)))
    mean: NDArray[np.float32] = direction[0] * np.float32(_MEAN)
    return mean


Maker: TypeAlias = Callable[[np.random.Generator, int, int], Matrix]
KINDS: Mapping[str, Maker] = {"texts": like_texts, "noise": noise}
