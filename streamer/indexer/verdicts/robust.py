"""p-values that stay right for ordinary events while strangers are among the recent scores."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from math import erfc, log, sqrt
from typing import Any, Final, NamedTuple

from streamer.indexer.verdicts.calibration import Reference

# The bulk of the scores says how the ordinary ones go on, as a normal variable does: straight in these quantiles.
# None of them is high: with a tenth of strangers, a good part of what lies above is theirs.
_LEVELS: Final = (0.25, 0.5, 0.75)
_Z: Final = (-0.674490, 0.0, 0.674490)
_CHECKED: Final = 0.05  # of the ordinary lie beyond where strangers are counted
_Z_CHECKED: Final = 1.644854
_SUPPOSED: Final = 0.1  # strangers, until it is known better
# Beyond the expected ones, so many may be ordinary, too; and for two strangers that are counted, a third one looks more
# ordinary than that.
_MAY_BE_ORDINARY: Final = 0.01
_WITH_HIDDEN: Final = 1.5
_MOST_STRANGERS: Final = 0.15
_ROUNDS: Final = 6
_FEWEST: Final = 50  # scores that a bulk consists of
_SELDOM: Final = 32  # scores after which the bulk is looked at again
# The tails of ordinary scores are about as heavy as the bulk says, on real text; a small reference is a guess.
_UNSURE: Final = 4.0
_FEWEST_KEPT: Final = 200
# Of a long reference.
_LONG: Final = 10_000
_DELAY: Final = 1_000
_SHARE_DELAYED: Final = 4
_NOTHING: Final = 1e-9  # a deviation that is none
# A tail that is heavier in each third of the scores is of strangers rather than of a stream that changes. But where the
# bulk leans, its upper half wider than its lower one by so much of both, ordinary scores have a heavy tail themselves.
# Of real text it hardly leans, however many strangers there are. Few scores lean by chance: of those, less is enough.
_AT_LEAST_LASTING: Final = 0.15
_NARROWER: Final = 0.8  # such strangers widen the bulk, too: so much of what it tells is of ordinary scores
_PARTS: Final = 3
_FEWEST_PARTED: Final = 300  # of fewer scores, a third says nothing
_UNSTEADY: Final = 0.25  # of the difference between the thirds: a stream that changes has a large one
_LEANS: Final = 0.1
_LEANS_OF: Final = 300
# So many deviations beyond the bulk, scores are hardly ordinary, even if the bulk has not been looked at since.
_FAR: Final = 4.0
_AT_LEAST_FAR: Final = 0.4
_TAKEN: Final = 500.0  # of a rate of a hundredth: what strangers take, compared with their share
_BY_CHANCE: Final = 0.0025  # a share that may be
_BY_CHANCE_OF_FEW: Final = 0.5  # of the standard deviation of a share
_AT_LEAST_COMPARED: Final = 0.35  # of the p-value behind `evidence`
# Where strangers stand apart, it is clear whose the tail is: there are more scores beyond the farther of two deviations
# than between both, and not so many that it is the stream that changes.
_AT_LEAST_APART: Final = 0.1
_APART: Final = (2.326348, 3.090232)
_TIMES_AS_MANY: Final = 1.5
_MOST_APART: Final = 0.08


class Bulk(NamedTuple):
    """What most scores say about the ordinary ones: their median and standard deviation, the share of strangers,
    whether these stand apart, and what share of strangers has been there all along."""

    middle: float
    deviation: float
    strangers: float
    apart: bool
    lasting: float = 0.0


class Standing(NamedTuple):
    """Where a score stands among the recent ones.

    `rank`: the share of all that are at least as large, this one included. `p_value`: the share of the ordinary ones,
    see RobustReference. `evidence`: -log of a p-value that does not depend on how clear it is whose the tail is, so
    that the scores of different times compare.
    """

    rank: float
    p_value: float
    evidence: float


class RobustReference(Reference):
    """The recent scores, some of which belong to strangers.

    `p_value` is the rank of a score among them (see Reference) unless the tail is heavier than the bulk tells: then it
    is what the bulk tells, times a `tolerance`, but never less than a share of the rank: `at_least`, or less as far as
    it is clear that the tail is of strangers, because ordinary scores may have such a tail. So strangers do not use up
    the rate, and a stream that changes altogether does not raise alarms for ever.

    Early in a stream only the latest third of the scores counts: distances shrink while a memory grows.
    """

    def __init__(self, rate: float, needed: int, *, tolerance: float = 1.0, at_least: float = 1.0) -> None:
        super().__init__(rate)
        self.needed = needed
        self.bulk: Bulk | None = None
        self._tolerance, self._at_least = tolerance, at_least
        self._added = 0

    def add(self, score: float, crowd: int = 1) -> None:
        """Take in a score, whoever it belongs to."""
        super().add(score, crowd)
        self._added += 1
        if len(self) > max(_FEWEST_KEPT, self._added // 3):
            self.drop_oldest()
        if self._added % _SELDOM == 0:
            self._refit()

    def _refit(self) -> None:
        bulk = fit(self._sorted)
        if bulk is not None and bulk.strangers:
            bulk = bulk._replace(lasting=self._lasting(bulk))
        self.bulk = bulk

    def _lasting(self, bulk: Bulk) -> float:
        """The share of strangers in that third of the scores where they are fewest, or less where the thirds differ."""
        low, middle, high = (self.quantile(level) for level in _LEVELS)
        if high - 2 * middle + low > _LEANS * min(1.0, len(self) / _LEANS_OF) * (high - low):
            return 0.0
        if len(self) < _FEWEST_PARTED:
            return max(0.0, bulk.strangers - _BY_CHANCE_OF_FEW * sqrt(_CHECKED / len(self)))
        limit = bulk.middle + bulk.deviation * _Z_CHECKED
        beyond = [score > limit for score, _ in self._arrived]
        size = len(beyond) // _PARTS
        thirds = [sum(beyond[start : start + size]) / size for start in range(0, _PARTS * size, size)]
        least = min(thirds)
        return max(0.0, least - _UNSTEADY * (max(thirds) - least) - _CHECKED)

    def p_value(self, score: float, crowd: int | None = None) -> float:
        """The share of ordinary scores that are at least as large; above 0, at most 1."""
        return self.standing(score, crowd).p_value

    def standing(self, score: float, crowd: int | None = None) -> Standing:
        """Where a score stands, among all and among the ordinary ones."""
        rank = super().p_value(score, crowd)
        if self.bulk is None:
            return Standing(rank, rank, -log(rank))
        away = (score - self.bulk.middle) / self.bulk.deviation
        expected = erfc(away / sqrt(2)) / 2 * self._tolerance * (1 + _UNSURE / sqrt(len(self) + 1))
        at_least = min(self._at_least, self.at_least, _AT_LEAST_FAR if away > _FAR else 1.0)
        compared = min(rank, max(expected, rank * _AT_LEAST_COMPARED))
        if self.bulk.lasting:
            expected *= _NARROWER
        return Standing(rank, min(rank, max(expected, rank * at_least)), -log(compared))

    @property
    def at_least(self) -> float:
        """The share of the rank that a p-value is at least, as far as it is clear whose the tail is."""
        if self.bulk is not None and self.bulk.apart:
            return _AT_LEAST_APART
        lasting = 0.0 if self.bulk is None else self.bulk.lasting
        return max(_AT_LEAST_LASTING, 1 / (1 + _TAKEN * max(0.0, lasting - _BY_CHANCE)))

    def rank(self, score: float) -> float:
        """The share of all scores that are at least as large, this one included; at most 1."""
        return super().p_value(score)

    def quantile(self, level: float) -> float:
        """The score that a share `level` of all stay below; there must be one."""
        return self._sorted[int(level * len(self._sorted))]

    def whole_state(self) -> Any:
        """A copy of all it knows, as JSON can hold it."""
        return {"scores": self.state(), "added": self._added, "bulk": self.bulk and list(self.bulk)}

    def resume(self, state: Any) -> None:
        """Go on from another one's state."""
        for score, crowd in state["scores"]:
            super().add(score, crowd)
        self._added = state["added"]
        self.bulk = None if state["bulk"] is None else Bulk(*state["bulk"])


class LongReference(RobustReference):
    """As RobustReference, for scores that do not shrink while a memory grows: 10,000 or more of them, however early in
    a stream.

    A score counts a thousand scores later, early in a stream a quarter of the scores before it later: a wave of
    strangers is compared with what came before it.
    """

    def __init__(self, rate: float, needed: int, *, tolerance: float = 1.0, at_least: float = 1.0) -> None:
        super().__init__(rate, needed, tolerance=tolerance, at_least=at_least)
        self.size = max(self.size, _LONG)
        self._arriving: deque[float] = deque()

    def add(self, score: float, crowd: int = 1) -> None:
        """Take in a score, to count in a while."""
        self._arriving.append(score)
        self._added += 1
        if len(self._arriving) > self._waiting:
            Reference.add(self, self._arriving.popleft(), crowd)
        if self._added % _SELDOM == 0:
            self.bulk = fit(self._sorted)

    @property
    def _waiting(self) -> int:
        return min(_DELAY, self._added // _SHARE_DELAYED)

    def whole_state(self) -> Any:
        """A copy of all it knows, as JSON can hold it."""
        state = super().whole_state()
        return {**state, "scores": state["scores"] + [(score, 1) for score in self._arriving]}

    def resume(self, state: Any) -> None:
        """Go on from another one's state."""
        self._added = state["added"]
        counting = len(state["scores"]) - self._waiting
        super().resume({**state, "scores": state["scores"][:counting]})
        self._arriving.extend(score for score, _ in state["scores"][counting:])


def fit(ordered: Sequence[float]) -> Bulk | None:
    """The bulk of scores in ascending order, by least squares; None where there is none."""
    count, strangers = len(ordered), _SUPPOSED
    if count < _FEWEST:
        return None
    mean_z = sum(_Z) / len(_Z)
    spread = sum((z - mean_z) ** 2 for z in _Z)
    middle = deviation = 0.0
    for _ in range(_ROUNDS):
        found = [ordered[int(level * (1 - strangers) * count)] for level in _LEVELS]
        mean = sum(found) / len(found)
        deviation = sum((z - mean_z) * value for z, value in zip(_Z, found, strict=True)) / spread
        middle = mean - deviation * mean_z
        if deviation <= _NOTHING:
            return None
        limit = middle + deviation * _Z_CHECKED
        beyond = (count - bisect_right(ordered, limit, count // 2)) / count
        strangers = min(
            _MOST_STRANGERS, max(0.0, _WITH_HIDDEN * (beyond - _CHECKED - _MAY_BE_ORDINARY) / (1 - _CHECKED))
        )
    far, farther = (count - bisect_right(ordered, middle + deviation * z) for z in _APART)
    apart = _TIMES_AS_MANY * (far - farther) < farther < _MOST_APART * count
    return Bulk(middle, deviation, strangers, apart)
