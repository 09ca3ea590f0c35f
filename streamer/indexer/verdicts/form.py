"""How unusual an event's form is among recent ones, and which of its features stands out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from math import log, log1p
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.sketch import TextForm

_RECENT: Final = 2_000
FEWEST: Final = 64  # forms before the first score
# Characters that a text is taken to have besides its own, so that one digit among four characters is no quarter.
_PRIOR: Final = 20.0
_SHRUNK: Final = 0.1
_ALIKE: Final = 0.1
_TOLD: Final = 500  # recent forms by which it is told what is ordinary
_USUAL: Final = 0.99  # quantile up to which a feature is called ordinary
# Learned anew after so many events: often at first, since a quarter more of them may change the picture.
_OFTEN: Final = 64
_SELDOM: Final = 256

# Where several stand out alike, the first of them is told.
_FEATURES: Final = (
    "digits", "capitals", "words in capitals", "links", "non-ASCII characters", "exclamation marks", "punctuation",
    "question marks", "length", "longest word", "mean word", "variety of characters",
)  # fmt: skip
_SHARES: Final = {"capitals", "digits", "punctuation", "non-ASCII characters", "words in capitals"}


def features(form: TextForm, prior: float = _PRIOR) -> tuple[float, ...]:
    """The numbers in which forms are compared, in the order of _FEATURES."""
    printed = form.printed + prior or 1.0
    return (
        form.digits / printed,
        form.capitals / (form.letters + prior or 1.0),
        form.shouted / (form.words + 2),
        float(form.links),
        form.beyond_ascii / printed,
        float(form.exclamations),
        max(0, form.printed - form.letters - form.digits) / printed,
        float(form.questions),
        log1p(form.characters),
        log1p(form.longest),
        form.printed / max(1, form.words),
        form.distinct / printed**0.5,
    )


class FormScorer:
    """The forms of the latest events, and how far one lies from them: the Mahalanobis distance of normal scores.

    Each feature is replaced by its rank among the recent ones, as a normal quantile: so a feature counts by how unusual
    its value is, whatever its distribution, and their correlations tell what is unusual together. Not safe for threads.
    """

    def __init__(self) -> None:
        self._forms: deque[TextForm] = deque(maxlen=_RECENT)
        self._features: deque[tuple[float, ...]] = deque(maxlen=_RECENT)
        self._new = 0  # since it was last learned what is usual
        self._sorted: list[list[float]] = []
        self._quantiles: list[float] = []  # by rank
        self._centre: NDArray[np.float64] = np.zeros(len(_FEATURES))
        self._inverse: NDArray[np.float64] = np.eye(len(_FEATURES))

    def __len__(self) -> int:
        return len(self._forms)

    def state(self) -> Any:
        """A copy of all it knows, as JSON can hold it."""
        learned = len(self._forms) and {
            "sorted": [list(column) for column in self._sorted],
            "centre": self._centre.tolist(),
            "inverse": self._inverse.tolist(),
        }
        return {"forms": [list(form) for form in self._forms], "new": self._new, "learned": learned}

    def resume(self, state: Any) -> None:
        """Go on from another one's state."""
        self._forms.extend(TextForm(*counts) for counts in state["forms"])
        self._features.extend(map(features, self._forms))
        self._new = state["new"]
        if state["learned"]:
            self._sorted = state["learned"]["sorted"]
            self._quantiles = _quantiles(len(self._sorted[0])).tolist() if self._sorted else []
            self._centre = np.array(state["learned"]["centre"])
            self._inverse = np.array(state["learned"]["inverse"])

    def learn(self, form: TextForm) -> None:
        """Take in the form of an event, for those behind it to be compared with."""
        self._forms.append(form)
        self._features.append(features(form))
        self._new += 1
        count = len(self._forms)
        if count >= FEWEST and (not self._sorted or self._new >= (_OFTEN if count < _RECENT else _SELDOM)):
            self._refresh()

    def score(self, form: TextForm) -> float | None:
        """The logarithm of the distance, which behaves like a normal variable; None while there are too few forms."""
        if not self._sorted:
            return None
        away = self._normal(features(form)) - self._centre
        return round(log(1e-6 + float(away @ self._inverse @ away)), 6)

    def reason(self, form: TextForm) -> str:
        """What about a form is the most unusual: its value, and up to which one such values are ordinary here."""
        away = np.abs(self._normal(features(form)))
        feature = int((away >= away.max() - _ALIKE).argmax())
        value = features(form, 0)[feature]
        recent = sorted(features(other, 0)[feature] for other in islice(reversed(self._forms), _TOLD))
        high = value >= recent[len(recent) // 2]
        usual = recent[int((_USUAL if high else 1 - _USUAL) * (len(recent) - 1))]
        return _told(_FEATURES[feature], value, usual, "up to" if high else "from")

    def _normal(self, values: Sequence[float]) -> NDArray[np.float64]:
        return np.array(
            [
                self._quantiles[bisect_left(column, value) + bisect_right(column, value)]
                for column, value in zip(self._sorted, values, strict=True)
            ]
        )

    def _refresh(self) -> None:
        columns = np.ascontiguousarray(np.array(self._features).T)
        order = np.argsort(columns, axis=1)
        ordered = np.take_along_axis(columns, order, axis=1)
        ranks = np.empty(columns.shape, np.int64)
        for rank, places, column in zip(ranks, order, ordered, strict=True):
            # Looked up in order, which is faster.
            rank[places] = np.searchsorted(column, column, "left") + np.searchsorted(column, column, "right")
        quantiles = _quantiles(columns.shape[1])
        self._centre, self._inverse = _usual(quantiles[ranks].T.copy())
        self._sorted, self._quantiles = ordered.tolist(), quantiles.tolist()
        self._new = 0


def _usual(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of rows, and the inverse of their covariance, drawn towards that of independent features."""
    covariance = np.cov(scores.T)
    typical = max(float(np.trace(covariance)) / len(covariance), 1e-3)
    drawn = (1 - _SHRUNK) * covariance + _SHRUNK * typical * np.eye(len(covariance))
    return np.array(scores.mean(axis=0), np.float64), np.array(np.linalg.inv(drawn), np.float64)


@lru_cache(1)
def _quantiles(count: int) -> NDArray[np.float64]:
    """Of the normal distribution, to a hundredth (Tukey's lambda), by twice the rank among `count`: (2 * count + 1)."""
    probabilities = (np.arange(2 * count + 1) + 1) / (2 * count + 2)
    quantiles: NDArray[np.float64] = 4.91 * (probabilities**0.14 - (1 - probabilities) ** 0.14)
    return quantiles


def _told(name: str, value: float, usual: float, direction: str) -> str:
    if name in _SHARES:
        return f"{_number(100 * value)} % {name}, ordinary here {direction} {_number(100 * usual)} %"
    if name in ("length", "longest word"):
        value, usual = np.expm1(value), np.expm1(usual)
    unit = "" if name in ("links", "exclamation marks", "question marks") else " characters"
    if name == "variety of characters":
        return "unusual variety of characters for its length"
    shown = f"{_number(value)} {name}" if not unit else f"{name} of {_number(value)}{unit}"
    return f"{shown}, ordinary here {direction} {_number(usual)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or abs(value - round(value)) < 0.05 else f"{value:.1f}"
