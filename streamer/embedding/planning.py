"""How a batch of texts becomes the fewest requests, and how many tokens a text costs before anybody has said."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

Indices = NDArray[np.intp]
Numbers = NDArray[np.float64]

SPECIAL_TOKENS = 2  # that models wrap around a text, such as [CLS] and [SEP]
JSON_BYTES = 3  # around each text in a request: two quotes and a comma
MARGIN = 1.1  # on a learned token rate
ENOUGH_BYTES = 1000  # a shorter report says little about the next one


@dataclass(frozen=True, slots=True)
class Caps:
    """What one request may hold; infinite where there is no cap."""

    items: float = inf
    tokens: float = inf
    bytes: float = inf


def plan(tokens: ArrayLike, sizes: ArrayLike, caps: Caps) -> list[Indices]:
    """Divide texts 0..n-1, of so many tokens and UTF-8 bytes each, into requests within `caps`; every text in one.

    The number of requests is the least possible when texts are small against the caps, and close to it otherwise. A
    text that is over a cap by itself goes alone: the provider has the last word on it.
    """
    # A text's weight is the largest share that it takes of a cap; a request whose weights sum to 1 is full.
    weights = np.asarray(tokens, dtype=np.float64) / caps.tokens
    weights = np.maximum(weights, (np.asarray(sizes, dtype=np.float64) + JSON_BYTES) / caps.bytes)
    everything = np.arange(len(weights))
    oversized = weights > 1
    if oversized.any():
        rest = everything[~oversized]
        return [rest[group] for group in _divide(weights[rest], caps.items)] + list(
            everything[oversized].reshape(-1, 1)
        )
    return _divide(weights, caps.items)


def _divide(weights: Numbers, items: float) -> list[Indices]:
    count = len(weights)
    if not count:
        return []
    fewest = max(1, ceil(count / items), ceil(float(weights.sum()) - 1e-9))
    slices = np.array_split(np.arange(count), fewest)
    if all(weights[part].sum() <= 1 for part in slices):
        return slices
    order = np.argsort(-weights, kind="stable").tolist()
    heavy_first = [(float(weights[text]), int(text)) for text in order]
    groups = _spread(heavy_first, items, fewest) or _spread(heavy_first, items, fewest + 1) or _pack(heavy_first, items)
    return [np.array(group, dtype=np.intp) for group in groups if group]


def _spread(heavy_first: list[tuple[float, int]], items: float, requests: int) -> list[list[int]] | None:
    """Each text into the lightest request; None if they do not fit into so many. Mixes heavy with light texts, which
    is what it takes where the cap on items and the cap on tokens both matter."""
    groups: list[list[int]] = [[] for _ in range(requests)]
    lightest = [(0.0, request) for request in range(requests)]
    for weight, text in heavy_first:
        if not lightest or lightest[0][0] + weight > 1 + 1e-9:
            return None
        load, request = heappop(lightest)
        groups[request].append(text)
        if len(groups[request]) < items:
            heappush(lightest, (load + weight, request))
    return groups


def _pack(heavy_first: list[tuple[float, int]], items: float) -> list[list[int]]:
    """Best fit decreasing: at most 11/9 of the fewest requests, for texts of any size."""
    groups: list[list[int]] = []
    rooms: list[tuple[float, int]] = []  # sorted
    for weight, text in heavy_first:
        tightest = bisect_left(rooms, (weight - 1e-9, 0))
        if tightest < len(rooms):
            room, request = rooms.pop(tightest)
        else:
            room, request = 1.0, len(groups)
            groups.append([])
        groups[request].append(text)
        if len(groups[request]) < items:
            insort(rooms, (room - weight, request))
    return groups


def byte_sizes(texts: Sequence[str]) -> Numbers:
    """UTF-8 bytes of each text; lone surrogates count as three."""
    return np.array([len(t) if t.isascii() else len(t.encode("utf-8", "surrogatepass")) for t in texts], np.float64)


class TokenEstimator:
    """Tokens per text, before the provider has counted them; one per provider and model, shared by all calls.

    With a tokenizer (`count`) the figures are exact. Without one they begin at the UTF-8 size, which no byte-level BPE,
    WordPiece or byte-fallback SentencePiece tokenizer exceeds, and come down to what the provider reports, with a
    margin; a report of more takes effect at once.
    """

    def __init__(self, count: Callable[[Sequence[str]], Sequence[int]] | None = None) -> None:
        self._count = count
        self._rate = 1.0
        self._has_learned = False

    @property
    def is_exact(self) -> bool:
        return self._count is not None

    def estimate(self, texts: Sequence[str], sizes: Numbers) -> Numbers:
        """Tokens of each text, given their `byte_sizes`."""
        if self._count is not None:
            return np.asarray(self._count(texts), dtype=np.float64)
        return np.ceil((sizes + SPECIAL_TOKENS) * min(1.0, self._rate * MARGIN))

    def learn(self, texts: int, size: float, tokens: float) -> None:
        """The provider counted `tokens` in a request of so many texts and bytes."""
        rate = tokens / (size + SPECIAL_TOKENS * texts)
        if rate > self._rate:
            self._rate = rate
        elif size >= ENOUGH_BYTES and tokens > 0:
            self._rate = rate if not self._has_learned else self._rate + 0.1 * (rate - self._rate)
            self._has_learned = True
