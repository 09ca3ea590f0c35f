"""What is said about each new event: whether something like it has streamed past before, and what.

Pure state: vectors in, verdicts out, in order of arrival. The same stream gives the same verdicts however it is cut
into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streamer.core.sketch import TextForm
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Matrix, Vector
from streamer.core.verdicts import Match, NearestEvent, Verdict, VerdictKind
from streamer.indexer.event_index import EventIndex, payload_of, payloads_of
from streamer.indexer.index.payloads import Payload
from streamer.indexer.vector_columns import VectorColumns
from streamer.indexer.verdicts.anomalies import AnomalyDetector, Unusualness, noted
from streamer.indexer.verdicts.background import Background
from streamer.indexer.verdicts.content import CANDIDATES, FEWEST, ContentScore, Note, annotated, content_score, restored
from streamer.indexer.verdicts.groups import Groups, LocalGroups
from streamer.indexer.verdicts.near_duplicates import Candidate, NearDuplicateDetector, Numbers, Threshold, candidates
from streamer.indexer.verdicts.retention import EventTimeRetention
from streamer.indexer.verdicts.unseen import Unseen

_RUN: Final = 64  # events compared in one product
_RESTORED_RUN: Final = 2048  # events remembered in one go, in memory
# The most unusual events say nothing about what is usual of two events.
_STRANGE: Final = 0.1
_MOST_HOPS: Final = 16  # a search each; longer chains of restored near-duplicates are cut here


@dataclass(frozen=True, slots=True)
class VerdictPolicy:
    """What the user decides.

    `near_duplicate_similarity`: cosine from which two events are near-duplicates, or "auto", see NearDuplicateDetector.
    `neighbors`: how many of the nearest events a verdict looks at and lists. `false_alarm_rate`: share of ordinary
    events that are called anomalies, or near-duplicates without being sure ones. `window`: milliseconds of event time
    after which an event is forgotten, None for never. `near_duplicate_numbers`: whether texts that differ in nothing
    but their numbers are two texts ("matter") or near-duplicates ("ignore").
    """

    near_duplicate_similarity: Threshold = "auto"
    neighbors: int = 5
    false_alarm_rate: float = 0.01
    window: int | None = None
    near_duplicate_numbers: Numbers = "matter"


class Judge:
    """Remembers events and gives each its verdict against those that arrived before it.

    `groups`: where it is kept which near-duplicates belong together. `payload`: what the index is to keep of an event.
    """

    def __init__(
        self,
        index: EventIndex,
        policy: VerdictPolicy,
        groups: Groups | None = None,
        payload: Callable[[VectorEvent], Payload | None] | None = None,
    ) -> None:
        self.index = index
        self._groups = groups or LocalGroups()
        self._restored_run = _RESTORED_RUN if groups is None else _RUN  # else a database is asked about each of them
        self._payload = payload or payload_of
        self.takes_columns = payload is None
        self._policy = policy
        self._near_duplicates = NearDuplicateDetector(policy.near_duplicate_similarity, policy.false_alarm_rate)
        self._background = Background(index.dimensions)
        self._anomalies = AnomalyDetector(policy.false_alarm_rate)
        self._retention = EventTimeRetention(policy.window)
        self._arrived = 0
        self._unseen = Unseen()

    def judge(self, events: Sequence[VectorEvent]) -> list[Verdict]:
        """Remember events, in order of arrival, and judge each.

        An event of a known id replaces the older one and is not compared with it.
        """
        self._groups.sweep(len(self.index), self.index.__contains__)
        self._catch_up()
        times = [event.timestamp for event in events]
        return [verdict for run in self._runs(times, _RUN) for verdict in self._judge(events[run])]

    def restore(self, events: Sequence[VectorEvent]) -> None:
        """Remember events whose verdicts were given by an earlier run."""
        if not events:
            return
        self._restore([event.id for event in events], self._matrix(events), *self._payloads(events))
        self._unseen.extend((event.id, event.form) for event in events)

    def restore_columns(self, events: VectorColumns) -> None:
        """The same. For a judge that `takes_columns`."""
        self._restore(events.ids, events.vectors, payloads_of(events), events.timestamps)
        self._unseen.extend(zip(events.ids, events.forms, strict=True))

    def _restore(self, ids: Sequence[str], vectors: Matrix, payloads: Sequence[Any], times: Sequence[int]) -> None:
        self._groups.sweep(len(self.index), self.index.__contains__)
        for run in self._runs(times, self._restored_run):
            notes = restored(self._arrived, len(ids[run]))
            self.index.insert(ids[run], vectors[run], payloads[run], times[run], notes)
            self._groups.restored(ids[run])
            self._arrived += len(ids[run])

    def forget(self, id: str) -> bool:
        """Forget an event; False when it was not known. Its near-duplicates go on naming it."""
        self._groups.forget(id)
        return self.index.delete(id)

    def hear_of(self, arrived: int) -> None:
        """So many events have arrived altogether, as others tell: the next one has at least this number."""
        self._arrived = max(self._arrived, arrived)

    @property
    def arrived(self) -> int:
        """So many events have arrived; the next one's number."""
        return self._arrived

    def look_back(self, events: Sequence[tuple[str, TextForm | None]]) -> None:
        """Learn, before the next verdict, from the latest events of an index that somebody else filled."""
        self._unseen.extend(events)

    def state(self) -> tuple[dict[str, Any], Matrix]:
        """A copy of all it knows beside the index, as JSON can hold it, and the rows of recent events."""
        recent, taken, background = self._background.state()
        return {
            "references": [reference.state() for reference in self._near_duplicates.references()],
            "anomalies": self._anomalies.state(),
            "taken": taken,
            "background": background,
            "horizon": self._retention.state,
            "arrived": self._arrived,
            **self._groups.state(),
            "unseen": self._unseen.state(),
        }, recent

    def resume(self, state: Mapping[str, Any], recent: Matrix) -> None:
        """Go on as another one would. For a new judge of the same policy whose index already remembers the same."""
        for reference, scores in zip(self._near_duplicates.references(), state["references"], strict=True):
            for score, crowd in scores:
                reference.add(score, crowd)
        self._anomalies.resume(state["anomalies"])
        self._background.resume(recent, state["taken"], state["background"])
        self._retention.state = tuple(state["horizon"])
        self._arrived = state["arrived"]
        self._groups.resume(state)
        self._unseen.resume(state["unseen"])

    def trust_times_until(self, latest: int) -> None:
        """Events that say to be of a later time, in milliseconds since the epoch, let nothing expire."""
        self._retention.latest_allowed = latest

    def thresholds(self) -> dict[str, float]:
        """The scores from which events are near-duplicates or anomalies now; infinite while there are too few."""
        return {**self._near_duplicates.thresholds(), "anomaly": self._anomalies.threshold()}

    def events_missing(self) -> int:
        """How many more ordinary events it takes before anomalies are told; 0 once they are."""
        return max(0, FEWEST - self._arrived) + self._anomalies.scores_missing

    def _runs(self, times: Sequence[int], most: int) -> Iterator[slice]:
        """Events of these times in pieces of at most so many, during which nothing expires."""
        start = 0
        for i, time in enumerate(times):
            before = self._retention.advance(time) if self._retention.window else None
            if before is not None or i - start == most:
                if i > start:
                    yield slice(start, i)
                start = i
            if before is not None:
                self.index.expire(before)
        if start < len(times):
            yield slice(start, len(times))

    def _matrix(self, events: Sequence[VectorEvent]) -> Matrix:
        # A third of the time of np.array.
        return np.concatenate([event.vector for event in events]).reshape(len(events), self.index.dimensions)

    def _judge(self, events: Sequence[VectorEvent]) -> list[Verdict]:
        vectors, ids = self._matrix(events), [event.id for event in events]
        # The note of each is written when its verdict is known; those of this run are looked up here until then.
        notes = [Note(arrival) for arrival in range(self._arrived, self._arrived + len(ids))]
        most = max(self._policy.neighbors, CANDIDATES)
        listed = self._policy.neighbors
        found = self.index.observe(ids, vectors, most, *self._payloads(events), notes, listed)
        nearest = [matches[:listed] for matches in found]
        compared = self._compare([event.sketch for event in events], nearest)
        verdicts: list[Verdict] = []
        for i, event in enumerate(events):
            verdict, notes[i] = self._verdict(event, vectors[i], compared[i], annotated(found[i], notes))
            verdicts.append(verdict)
        self.index.annotate(ids, notes)
        return verdicts

    def _verdict(
        self,
        event: VectorEvent,
        vector: Vector,
        nearest: Sequence[Candidate],
        near: Iterable[tuple[float, tuple[int, float, float]]],
    ) -> tuple[Verdict, Note]:
        arrival, background = self._arrived, self._background.value
        copies = self._near_duplicates.copies(nearest, background, min(arrival, self.index.capacity))
        self._arrived += 1
        first = self._join(event.id, copies)
        content = content_score(arrival, near, background, self._anomalies.exempt)
        judged = self._anomalies.judge(content, event.form)
        kind: VerdictKind = "near_duplicate"
        reason, form_reason = None, None
        if first is None:
            kind = "warming_up" if judged is None else "ordinary"
            if judged is not None and judged.p_value <= self._policy.false_alarm_rate:
                kind = "anomaly"
                reason, form_reason = self._anomalies.reason(judged, event.form)
            # Copies stay out: a thousand of them, and nothing else would be ordinary any more.
            self._learn(vector, content, event.form, judged)
        verdict = Verdict(
            id=event.id,
            verdict=kind,
            similarity=nearest[0].match.similarity if nearest else None,
            duplicate_of=first,
            nearest=[NearestEvent(candidate.match.id, candidate.match.similarity) for candidate in nearest],
            space=event.space,
            source=event.source,
            score=None if judged is None else judged.score,
            p_value=None if judged is None else _rounded(judged.p_value),
            content_p_value=None if judged is None else _rounded(judged.content_p_value),
            form_p_value=None if judged is None else _rounded(judged.form_p_value),
            reason=reason,
            form_reason=form_reason,
            events_missing=self.events_missing() if kind == "warming_up" else None,
        )
        return verdict, noted(arrival, content, judged)

    def _learn(
        self, vector: Vector, content: ContentScore | None, form: TextForm | None, judged: Unusualness | None
    ) -> None:
        if judged is None or judged.content_p_value > _STRANGE:
            self._background.add(vector)
        self._anomalies.learn(content, form, judged)

    def _compare(self, sketches: Sequence[bytes | None], found: Sequence[Sequence[Match]]) -> list[list[Candidate]]:
        theirs = [[match.payload.sketch if match.payload else None for match in matches] for matches in found]
        return candidates(sketches, found, theirs, numbers_matter=self._policy.near_duplicate_numbers == "matter")

    def _join(self, id: str, copies: Sequence[Match], hops: int = 0) -> str | None:
        """Put an id into the group of the best of its copies; the group's first, None if it starts its own.

        Copies that themselves are near-duplicates of this id are passed over: the first of a group that is sent
        again stays the first, so that a replay repeats the verdicts it repeats the events of.
        """
        self._groups.judged(id, None)
        for match in copies:
            first = self._first_of(match.id, hops)
            if first != id:
                self._groups.judged(id, first)
                return first
        return None

    def _first_of(self, id: str, hops: int) -> str:
        if self._groups.is_unjudged(id) and hops < _MOST_HOPS:
            nearest = self.index.search_before(id, self._policy.neighbors)
            payload = self.index.payload(id)
            (compared,) = self._compare([payload.sketch if payload else None], [nearest])
            copies = self._near_duplicates.copies(compared, self._background.value, self._arrived, learn=False)
            return self._join(id, copies, hops + 1) or id
        return self._groups.first(id)

    def _catch_up(self) -> None:
        """Learn from what was restored last, as if it had been judged and been no copy.

        Its nearest are those of now, later ones among them: of a memory that is nearly full, nearly the same.
        """
        forms = {id: form for id, form in self._unseen.take() if id in self.index}
        ids = list(forms)
        for start in range(0, len(ids), _RUN):
            part = ids[start : start + _RUN]
            vectors = np.array([self.index.get(id) for id in part], np.float32)
            for id, vector, found in zip(part, vectors, self.index.search(vectors, CANDIDATES + 1), strict=True):
                near = [(match.similarity, match.note) for match in found if match.id != id][:CANDIDATES]
                arrival = next((match.note[0] for match in found if match.id == id), self._arrived)
                content = content_score(self._arrived, near, self._background.value, self._anomalies.exempt)
                judged = self._anomalies.judge(content, forms[id])
                self._learn(vector, content, forms[id], judged)
                self.index.annotate([id], [noted(arrival, content, judged)])

    def _payloads(self, events: Sequence[VectorEvent]) -> tuple[list[Payload | None], list[int]]:
        return [self._payload(event) for event in events], [event.timestamp for event in events]


def _rounded(p_value: float | None) -> float | None:
    return None if p_value is None else round(p_value, 6)
