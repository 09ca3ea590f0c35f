"""How far a vector lies from its nearest earlier ones, with regard to how close together those lie themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import nan
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.verdicts import Match
from streamer.indexer.index.payloads import NOTE

NEIGHBOURS: Final = 12  # that count
CANDIDATES: Final = 16  # nearest earlier ones, of which the first NEIGHBOURS eligible ones count
FEWEST: Final = 20  # earlier events before the first score

# What the neighbours' own closeness is worth. This and all numbers below were chosen on the mean over four public sets,
# none of which decided alone.
_WEIGHT: Final = 0.5
_DENSITY: Final = 8  # neighbours by which it is told how close together events lie
# Events on probation are no neighbours yet: for as many events as a thousand, early in a stream a quarter of those
# before them, times the binary logarithm of how unusual they were. So strangers do not make each other look familiar,
# and whatever stays is familiar after a bounded time.
_PROBATION: Final = 1_000
_SHARE_ON_PROBATION: Final = 0.25
# Nearest of any kind that are asked what company an event keeps.
_COMPANY: Final = 8

_LARGEST_BACKGROUND: Final = 0.95


class Note(NamedTuple):
    """What is kept with a vector. `arrival`: the number of events before it. `density`: the mean cosine with its own
    neighbours, nan where it was never judged. `surprise`: -log2 of the rank of its score."""

    arrival: int
    density: float = nan
    surprise: float = 0.0


def restored(first: int, count: int) -> NDArray[np.void]:
    """The notes of so many events that were never judged, from the arrival `first` on."""
    notes = np.zeros(count, NOTE)
    notes["arrival"] = np.arange(first, first + count)
    notes["density"] = nan
    return notes


def annotated(matches: Sequence[Match], notes: Sequence[Note]) -> Iterator[tuple[float, tuple[int, float, float]]]:
    """Cosines and notes of matches, some of which may be members of a run; the notes of those are `notes`."""
    first = notes[0].arrival
    for match in matches:
        place = match.note[0] - first
        yield match.similarity, notes[place] if place >= 0 else match.note


class ContentScore(NamedTuple):
    """`score`: larger is stranger. `density`: for the event's own Note. `company`: mean surprise of the nearest, as far
    as these are on probation."""

    score: float
    density: float
    company: float = 0.0


def content_score(
    arrival: int, near: Iterable[tuple[float, tuple[int, float, float]]], background: float, exempt: float = 0.0
) -> ContentScore | None:
    """The score of the event of this number by its CANDIDATES nearest earlier ones, best first, each with its cosine
    and what is in its Note.

    `background`: mean cosine of two unrelated events. `exempt`: bits of surprise that put nobody on probation. None
    where there are too few earlier events.
    """
    if arrival < FEWEST:
        return None
    background = min(max(background, 0.0), _LARGEST_BACKGROUND)
    cosines, nearest, densities, company, last = 0.0, 0.0, 0.0, 0.0, None
    asked, counted, known = 0, 0, 0
    for last, (earlier, density, surprise) in near:
        asked += 1
        if surprise > exempt:
            age = arrival - earlier
            probation = (surprise - exempt) * min(_PROBATION, _SHARE_ON_PROBATION * earlier)
            if age < probation:
                if asked <= _COMPANY:
                    company += surprise * (1 - age / probation)
                continue
        if counted < _DENSITY:
            nearest += last
            if density == density:  # not nan
                densities += density
                known += 1
        cosines += last
        counted += 1
        if counted == NEIGHBOURS:
            break
    if last is None:
        return None
    # What is missing lies no nearer than the farthest that was found.
    density = (nearest + max(0, _DENSITY - counted) * last) / _DENSITY
    mean = (cosines + (NEIGHBOURS - counted) * last) / NEIGHBOURS
    theirs = max(0.0, (densities / known if known else density) - background)
    score = (_WEIGHT * theirs - (mean - background)) / (1 - background)
    return ContentScore(round(score, 6), density, company / min(asked, _COMPANY))
