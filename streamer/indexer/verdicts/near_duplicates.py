"""Which of an event's nearest are copies of it: cosine and shared words in one score, and a self-made threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Literal, TypeAlias

from streamer.core.sketch import Overlap, overlaps
from streamer.core.verdicts import Match
from streamer.indexer.verdicts.calibration import Reference

Threshold: TypeAlias = float | Literal["auto"]
Numbers: TypeAlias = Literal["matter", "ignore"]

# Four fifths of the shorter text's words in the other one, numbers and all, is a copy by any standard; and so is a
# cosine nine tenths of the way from two unrelated events of this stream to two equal ones. These are not calibrated.
_SURE_SHARE: Final = 0.8
_SURE_CLOSENESS: Final = 0.9
# Good guesses until the stream has taught better: rarely wrong on news, where many texts tell the same story.
_FIRST_SCORE: Final = 0.7
_FIRST_CLOSENESS: Final = 0.8
# Where nothing resembles anything, the most similar hundredth of the events are still no near-duplicates.
_FLOOR: Final = 0.5
_LARGEST_BACKGROUND: Final = 0.95


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neighbour, its cosine, and what its text has in common with the event's: None where a sketch is missing."""

    match: Match
    overlap: Overlap | None


def candidates(
    sketches: Sequence[bytes | None],
    found: Sequence[Sequence[Match]],
    theirs: Sequence[Sequence[bytes | None]],
    *,
    numbers_matter: bool = True,
) -> list[list[Candidate]]:
    """The neighbours of each event of a batch, compared by their sketches in one go."""
    pairs = [
        (own, other)
        for own, others in zip(sketches, theirs, strict=True)
        for other in others
        if own is not None and other is not None
    ]
    first, second = [own for own, _ in pairs], [other for _, other in pairs]
    compared = iter(overlaps(first, second, numbers_matter=numbers_matter))
    return [
        [
            Candidate(match, None if own is None or other is None else next(compared))
            for match, other in zip(matches, others, strict=True)
        ]
        for own, matches, others in zip(sketches, found, theirs, strict=True)
    ]


class NearDuplicateDetector:
    """Tells copies from neighbours, and learns from every event what is no more than ordinary resemblance.

    With a fixed threshold, a copy is what has at least that cosine. With "auto", a copy is sure, or resembles the event
    more than all but a share `rate` of the events resemble their nearest in this stream. What is surely a copy says
    nothing about ordinary resemblance and is kept out of that comparison; the rest, look-alikes made from one template
    for instance, is what it consists of.
    """

    def __init__(self, threshold: Threshold, rate: float) -> None:
        self._threshold = threshold
        self._by_words, self._by_cosine = Reference(rate), Reference(rate)

    def thresholds(self) -> dict[str, float]:
        """From which score on an event is a near-duplicate, where sketches are present and where they are not."""
        if self._threshold != "auto":
            return dict.fromkeys(("words", "cosine"), self._threshold)
        return {"words": self._critical(words=True), "cosine": min(_SURE_CLOSENESS, self._critical(words=False))}

    def references(self) -> tuple[Reference, Reference]:
        """What has been learned of ordinary resemblance, by words and by cosine."""
        return self._by_words, self._by_cosine

    def copies(self, found: Sequence[Candidate], background: float, crowd: int, *, learn: bool = True) -> list[Match]:
        """The copies among an event's nearest, most similar first.

        `background`: mean cosine of two unrelated events. `crowd`: how many events they are the nearest among.
        """
        if self._threshold != "auto":
            return [candidate.match for candidate in found if candidate.match.similarity >= self._threshold]
        scored = [(*self._score(candidate, background), candidate) for candidate in found]
        scored.sort(key=itemgetter(0), reverse=True)  # stable: equal ones stay in order of their cosine
        copies = [
            candidate.match
            for score, sure, candidate in scored
            if sure or score > self._critical(candidate.overlap is not None, crowd)
        ]
        if learn and scored and not any(sure for _, sure, _ in scored):
            score, _, nearest = scored[0]
            (self._by_cosine if nearest.overlap is None else self._by_words).add(score, crowd)
        return copies

    def _critical(self, words: bool, crowd: int | None = None) -> float:
        reference, first = (self._by_words, _FIRST_SCORE) if words else (self._by_cosine, _FIRST_CLOSENESS)
        return max(_FLOOR, reference.critical(crowd)) if reference.suffices else first

    def _score(self, candidate: Candidate, background: float) -> tuple[float, bool]:
        background = min(max(background, 0.0), _LARGEST_BACKGROUND)
        closeness = (candidate.match.similarity - background) / (1 - background)
        if candidate.overlap is None:
            return closeness, closeness >= _SURE_CLOSENESS
        # A template with other numbers is as close as a copy. Measured on news with injected copies and look-alikes:
        # squared, the agreement of numbers separates the two best; equal parts are as good as any between 0.35 and 0.6.
        share, agreement = candidate.overlap
        return (closeness * agreement**2 + share) / 2, share >= _SURE_SHARE
