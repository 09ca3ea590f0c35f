"""What one `embed` works on: the texts, what is known of their size, and the outcome of each so far."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from streamer.core.vectors import Purpose
from streamer.embedding.planning import TokenEstimator, byte_sizes
from streamer.protocols import Embedding, Rejection


class TextBatch:
    """A text is known by its place, 0..n-1, through every split and retry, so no vector can end up at another text.

    `shortened`: the places whose text was cut by us. `failing_since`: when the first call failed after the last one
    that did not, by the loop's clock; infinite while none has. `doubted_at`: how many calls had been answered when a
    text was first refused, by its place.
    """

    def __init__(self, texts: Sequence[str], purpose: Purpose, estimator: TokenEstimator) -> None:
        self._estimator = estimator
        self.purpose = purpose
        self.texts = list(texts)
        self.sizes = byte_sizes(self.texts)
        self.longest = float(self.sizes.max(initial=0.0))
        self.tokens = estimator.estimate(self.texts, self.sizes)
        self.attempts = np.zeros(len(self.texts), dtype=np.int64)
        self.outcomes: list[Embedding | Rejection | None] = [None] * len(self.texts)
        self.shortened: set[int] = set()
        self.failing_since = inf
        self.doubted_at: dict[int, int] = {}

    def shorten(self, place: int, text: str) -> None:
        """Replace a text by its beginning."""
        self.texts[place] = text
        self.sizes[place : place + 1] = byte_sizes([text])
        self.tokens[place : place + 1] = self._estimator.estimate([text], self.sizes[place : place + 1])
        self.shortened.add(place)


def halves(places: list[int]) -> tuple[list[int], list[int]]:
    middle = len(places) // 2
    return places[:middle], places[middle:]
