"""How far a vector lies from its nearest earlier ones, with regard to how close together those lie themselves."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from typing import Final, NamedTuple

NEIGHBOURS: Final = 8  # that count
CANDIDATES: Final = 16  # nearest earlier ones, of which the first NEIGHBOURS eligible ones count
FEWEST: Final = 20  # earlier events before the first score

# What a neighbour's own closeness is worth. Of five public sets no single one decided on it: they are better off with
# 0.2 to 0.4, and with a power of 2 to 4. A power, because only where events lie close together their closeness says
# what is usual there; among loose ones it is chance.
_WEIGHT: Final = 0.3
_POWER: Final = 3
# Events on probation are no neighbours yet: for as many events as a thousand, early in a stream a quarter of those so
# far, times the binary logarithm of how unusual they were. So strangers do not make each other look familiar, and
# whatever stays is familiar after a bounded time.
_PROBATION: Final = 1_000
_SHARE_ON_PROBATION: Final = 0.25

_LARGEST_BACKGROUND: Final = 0.95


class Note(NamedTuple):
    """What is kept with a vector. `arrival`: the number of events before it. `density`: the mean cosine with its own
    neighbours, nan where it was never judged. `surprise`: -log2 of the rank of its score."""

    arrival: int
    density: float = nan
    surprise: float = 0.0


class ContentScore(NamedTuple):
    """`score`: larger is stranger. `density`: for the event's own Note."""

    score: float
    density: float


def content_score(
    arrival: int, near: Iterable[tuple[float, tuple[int, float, float]]], background: float
) -> ContentScore | None:
    """The score of the event of this number by its CANDIDATES nearest earlier ones, best first, each with its cosine
    and what is in its Note.

    `background`: mean cosine of two unrelated events. None where there are too few earlier events.
    """
    if arrival < FEWEST:
        return None
    background = min(max(background, 0.0), _LARGEST_BACKGROUND)
    probation = min(_PROBATION, _SHARE_ON_PROBATION * arrival)
    cosines, densities, missing, last = 0.0, 0.0, NEIGHBOURS, None
    known = 0
    for last, (earlier, density, surprise) in near:
        if arrival - earlier >= probation * surprise:
            missing -= 1
            cosines += last
            if density == density:  # not nan
                densities += _familiarity(density, background)
                known += 1
            if not missing:
                break
    if last is None:
        return None
    # What is missing lies no nearer than the farthest that was found.
    density = (cosines + missing * last) / NEIGHBOURS
    closeness = (density - background) / (1 - background)
    theirs = densities / known if known else _familiarity(density, background)
    return ContentScore(round(theirs - closeness, 6), density)


def _familiarity(density: float, background: float) -> float:
    return _WEIGHT * max(0.0, (density - background) / (1 - background)) ** _POWER
