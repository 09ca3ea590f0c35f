"""Whether an event is an anomaly, by its content, by its form, or by both: three p-values, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, log2, nan
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from streamer.core.sketch import TextForm
from streamer.core.verdicts import Reason
from streamer.indexer.verdicts.content import ContentScore, Note
from streamer.indexer.verdicts.form import FormScorer
from streamer.indexer.verdicts.robust import LongReference, RobustReference

_SCORES: Final = 80  # fewer are no reference
_FORM_TOLERANCE: Final = 5.0  # tails of forms are heavy: rare signs are rare
_FORM_AT_LEAST: Final = 0.01

# An event in unusual company is more unusual than its own score says: by so many deviations of the scores for each bit
# of its neighbours' surprise. But company alone raises no alarm: beyond this quantile it counts for little.
_COMPANY: Final = 0.8
_BY_COMPANY: Final = 0.95
_BEYOND: Final = 0.1

# Form counts for what its -log p exceeds: little where no more events stand out by it than would by chance; more where
# more do; nearly all where those are unusual in content, too, so that form is sure to tell what is strange.
_PLAIN_FORMS: Final = 3.0
_TELLING: Final = 2.25
_TRUSTED: Final = 1.0
_STANDS_OUT: Final = 0.01
_BY_CHANCE: Final = (0.01, 0.02)  # the share of events that stand out: by chance up to, surely more from
_UNUSUAL: Final = (0.2, 0.5)  # the mean normal score of their content: no trust up to, full trust from
_MEMORY: Final = 1_000
_MEMORY_OF_FORMS: Final = 40
# Forms are new where the -log p of their ranks exceeds _PLAIN_FORMS by so many times as much as by chance. While they
# come, form counts for all that it says, and content for what its -log p exceeds a limit by. Beyond the larger numbers
# there are so many that it is the stream that changes.
_NEW_FORMS: Final = (1.5, 2.0)
_NEW_STREAM: Final = (6.0, 9.0)
_MEMORY_OF_NEW: Final = 400
_BESIDE_NEW_FORMS: Final = 1.0
# Trust or novelty from which form may lower a joint p-value as content may, down to such a share of the rank.
_RESPECTED: Final = 0.5
_AT_LEAST_RESPECTED: Final = 0.25
# Such a share of the rate is content's, whatever form says: after a wave of new forms, their scores outrank all others.
_OF_CONTENT_ALONE: Final = 0.5

# Strangers that have been among the scores all along are each unlike anything else: a class would have become familiar.
# Content alone tells them, and what is meant for a class does harm: probation takes from small subjects the few
# neighbours that they have. Then all but the most surprising events are neighbours at once; company counts for less,
# and so does a form that is not trusted.
_LASTING: Final = (0.002, 0.01)  # the mean share of such strangers: not sure up to, sure from
_MEMORY_OF_LASTING: Final = 1_000
_EXEMPT: Final = 3.0  # bits of surprise
_COMPANY_LOST: Final = 0.5
_BESIDE_CONTENT: Final = 3.0  # by which the limit of form is higher

# Which of the two is named as the reason: whichever is this unusual by itself.
_PLAIN: Final = 3.0

_normal = NormalDist()


@dataclass(frozen=True, slots=True)
class Unusualness:
    """How unusual an event is. `surprise`: -log2 of the rank of its content among all. `form_score`: see FormScorer.
    `form_rank`: the rank of its form among all. `alone`: the rank of its content without its company."""

    score: float
    p_value: float
    content_p_value: float
    form_p_value: float | None
    surprise: float
    form_score: float | None
    form_rank: float | None
    alone: float


class AnomalyDetector:
    """Learns what scores are usual. Not safe for threads. `rate`: share of ordinary events to be called anomalies."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._forms = FormScorer()
        self._content = RobustReference(rate, _SCORES)
        self._form = LongReference(rate, _SCORES, tolerance=_FORM_TOLERANCE, at_least=_FORM_AT_LEAST)
        self._joint = RobustReference(rate, _SCORES)
        self._judged = 0
        self._standing_out = 0.0
        self._their_content, self._their_weight = 0.0, 0.0
        self._lasting = 0.0  # the share of strangers that have been there all along, on the average
        self._newness = 1.0  # what the -log p of forms exceeds _PLAIN_FORMS by, compared with chance

    def state(self) -> dict[str, Any]:
        """A copy of all it knows, as JSON can hold it."""
        return {
            "references": [reference.whole_state() for reference in self._references()],
            "forms": self._forms.state(),
            "trust": [
                self._judged,
                self._standing_out,
                self._their_content,
                self._their_weight,
                self._newness,
                self._lasting,
            ],
        }

    def resume(self, state: Any) -> None:
        """Go on from another one's state."""
        for reference, known in zip(self._references(), state["references"], strict=True):
            reference.resume(known)
        self._forms.resume(state["forms"])
        # Earlier snapshots do not know the last two.
        trust = [*state["trust"], *(1.0, 0.0)[len(state["trust"]) - 4 :]]
        self._judged, self._standing_out, self._their_content, self._their_weight, self._newness, self._lasting = trust

    def _references(self) -> Sequence[RobustReference]:
        return self._content, self._form, self._joint

    @property
    def form_trust(self) -> float:
        """How much a stream's form says about what is strange in it: from 0 to 1, learned."""
        content = self._their_content / (self._their_weight + 0.1)
        return _ramp(self._standing_out, *_BY_CHANCE) * _ramp(content, *_UNUSUAL)

    @property
    def content_trust(self) -> float:
        """How sure it is that a stream's content alone tells what is strange in it: from 0 to 1, learned."""
        return _ramp(self._lasting, *_LASTING)

    @property
    def exempt(self) -> float:
        """Bits of surprise up to which an event is a neighbour of others at once, see content_score."""
        return _EXEMPT * self.content_trust

    @property
    def form_novelty(self) -> float:
        """How sure it is that some events have forms that did not come before: from 0 to 1, learned."""
        return _ramp(self._newness, *_NEW_FORMS) * (1 - _ramp(self._newness, *_NEW_STREAM))

    @property
    def form_limit(self) -> float:
        """What the -log p of a form must exceed in order to count."""
        limit = _PLAIN_FORMS - (_PLAIN_FORMS - _TELLING) * _ramp(self._standing_out, *_BY_CHANCE)
        limit -= self.form_trust * (limit - _TRUSTED)
        limit += (1 - self.form_trust) * self.content_trust * _BESIDE_CONTENT
        return limit * (1 - self.form_novelty)

    @property
    def scores_missing(self) -> int:
        """How many events with a score it takes until there are p-values."""
        return max(0, self._content.needed - len(self._content))

    def threshold(self) -> float:
        """The joint score from which events are anomalies; infinite while there are too few."""
        return self._joint.critical()

    def judge(self, content: ContentScore | None, form: TextForm | None) -> Unusualness | None:
        """How unusual an event is; None while there are too few to tell."""
        if content is None or not self._content.suffices:
            return None
        limit, novelty = self.form_limit, self.form_novelty
        respected = max(novelty, self.form_trust) >= _RESPECTED
        unusual = self._in_company(content)
        by_content = self._content.standing(unusual)
        score = max(0.0, by_content.evidence - novelty * _BESIDE_NEW_FORMS)
        counted = -log(by_content.p_value)
        form_score = None if form is None else self._forms.score(form)
        form_rank = form_p_value = None
        if form_score is not None and self._form.suffices:
            form_rank, form_p_value, _ = self._form.standing(form_score)
            # The p-value sets strange forms apart, but mistakes rare ones that are usual for them; the rank does not.
            told = -(1 - novelty) * log(form_rank) - novelty * log(form_p_value)
            score += max(0.0, told - limit)
            # A form that is not respected may raise the rank, and nothing more.
            if respected:
                counted += max(0.0, told - limit)
        # The sum of content's -log p and of what form's exceeds a limit by, where the two are independent.
        p_value = min(1.0, exp(-counted) * (1 + exp(-limit) * counted))
        if not self._joint.suffices:
            p_value = max(p_value, by_content.rank)  # few scores say no more than that
        else:
            by_rank = self._joint.rank(score)
            at_least = min(self._content.at_least, _AT_LEAST_RESPECTED if respected else 1.0)
            p_value = min(by_rank, max(p_value, by_rank * at_least), by_content.p_value / _OF_CONTENT_ALONE)
        return Unusualness(
            score=round(score, 6),
            p_value=p_value,
            content_p_value=by_content.p_value,
            form_p_value=form_p_value,
            surprise=-log2(by_content.rank),
            form_score=form_score,
            form_rank=form_rank,
            alone=by_content.rank if unusual == content.score else self._content.rank(content.score),
        )

    def _in_company(self, content: ContentScore) -> float:
        """Its score, raised by the company that it keeps."""
        bulk = self._content.bulk
        if bulk is None or not content.company:
            return content.score
        raised = content.score + _COMPANY * bulk.deviation * content.company * (1 - _COMPANY_LOST * self.content_trust)
        limit = self._content.quantile(_BY_COMPANY)
        return raised if raised <= limit else max(content.score, limit + _BEYOND * (raised - limit))

    def learn(self, content: ContentScore | None, form: TextForm | None, judged: Unusualness | None) -> None:
        """Let an event that is no copy be among those that others are compared with."""
        if content is not None:
            self._content.add(content.score)
        if form is not None:
            score = self._forms.score(form) if judged is None else judged.form_score
            if score is not None:
                self._form.add(score)
            self._forms.learn(form)
        if judged is None:
            return
        self._joint.add(judged.score)
        self._judged += 1
        lasting = 0.0 if self._content.bulk is None else self._content.bulk.lasting
        self._lasting += (lasting - self._lasting) / min(_MEMORY_OF_LASTING, 150 + self._judged)
        if judged.form_p_value is None or judged.form_rank is None:
            return
        exceeding = max(0.0, -log(judged.form_rank) - _PLAIN_FORMS) * exp(_PLAIN_FORMS)
        self._newness += (exceeding - self._newness) / min(_MEMORY_OF_NEW, 150 + self._judged)
        stands_out = judged.form_p_value <= _STANDS_OUT
        self._standing_out += (stands_out - self._standing_out) / min(_MEMORY, 150 + self._judged)
        if stands_out:
            content_score = _normal.inv_cdf(min(0.999, max(0.001, 1 - judged.alone)))
            self._their_content += (content_score - self._their_content) / _MEMORY_OF_FORMS
            self._their_weight += (1 - self._their_weight) / _MEMORY_OF_FORMS

    def reason(self, judged: Unusualness, form: TextForm | None) -> tuple[Reason, str | None]:
        """Why an anomaly is one, and what stands out in its form, in words."""
        by_content = -log(judged.content_p_value)
        by_form = 0.0 if judged.form_p_value is None else -log(judged.form_p_value)
        told = None if form is None or by_form < _PLAIN else self._forms.reason(form)
        if told is None:
            return "content", None
        return ("both" if by_content >= _PLAIN else "form"), told


def noted(arrival: int, content: ContentScore | None, judged: Unusualness | None) -> Note:
    """What is kept of an event for those that it will be a neighbour of."""
    # As single precision, in which notes are kept.
    density = nan if content is None else float(np.float32(content.density))
    surprise = 0.0 if judged is None else float(np.float32(judged.surprise))
    return Note(arrival, density, surprise)


def _ramp(value: float, low: float, high: float) -> float:
    if low < value < high:
        return (value - low) / (high - low)
    return 0.0 if value <= low else 1.0
