"""A worker's flow as a discrete-event simulation: the same rules as the real one, on a clock of numbers.

Batches are cut, texts deduplicated, requests planned, limits kept and outcomes released by the very parts that a worker
uses; only the broker, the provider and the processor are modelled, by the seconds that they take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

from streamer.core.events import Event, TopicPartition
from streamer.embedding.overlong import OverlongTexts
from streamer.embedding.planning import TokenEstimator, plan
from streamer.embedding.quota import Quota
from streamer.embedding.request_caps import RequestCaps
from streamer.embedding.text_batch import TextBatch
from streamer.forecast.flow_model import FlowModel, Run
from streamer.worker.batching import Batcher

POLL_RECORDS = 1000  # of one poll

Then = Callable[[], None]


@dataclass(slots=True)
class _Order:
    """Outcomes of a partition leave in the order of its events."""

    unreleased: deque[int] = field(default_factory=deque)
    settled: set[int] = field(default_factory=set)
    in_flight: int = 0


class Simulation:
    """`run` once. Events are told apart by partition and offset; `cached`: texts that the cache has already."""

    def __init__(self, model: FlowModel, cached: Sequence[str] = ()) -> None:
        self._model = model
        self._quota = Quota(
            requests_per_minute=model.requests_per_minute,
            tokens_per_minute=model.tokens_per_minute,
            items_per_minute=model.items_per_minute,
        )
        self._estimator = TokenEstimator(None if model.contract.is_local else model.count_tokens)
        self._caps = RequestCaps(model.contract, self._quota, model.most_request_tokens)
        self._overlong = OverlongTexts(model.contract, model.space, model.count_tokens)
        self._batcher = Batcher(model.batch)
        self._queue: list[tuple[float, int, Then]] = []
        self._serial = 0
        self._now = 0.0
        self._processor_free = 0.0
        self._slots = model.max_batches
        self._open_calls = 0
        self._calls: deque[tuple[float, int, Then]] = deque()
        self._admission_at = inf
        self._held_since: float | None = None  # by a limit
        self._deadline_at = inf
        self._polling = False
        self._waiting: dict[TopicPartition, deque[Event]] = {}
        self._order: dict[TopicPartition, _Order] = {}
        self._arrived: dict[tuple[TopicPartition, int], float] = {}
        self._known = set(cached)
        self._flights: dict[str, list[Then]] = {}
        self._sizes: dict[str, int] = {}
        self.result = Run()

    def run(self, arrivals: Sequence[tuple[float, Event]]) -> Run:
        """Events with the times at which they can be read, in order of time."""
        for at, event in arrivals:
            self._at(at, lambda event=event: self._arrive(event))  # type: ignore[misc]
        while self._queue:
            self._now, _, then = heappop(self._queue)
            then()
        return self.result

    def _at(self, time: float, then: Then) -> None:
        self._serial += 1
        heappush(self._queue, (time, self._serial, then))

    def _work(self, seconds: float, then: Then) -> None:
        """On the processor, in turn."""
        self._processor_free = max(self._processor_free, self._now) + seconds
        self.result.processor_seconds += seconds
        self._at(self._processor_free, then)

    # -------------------------------------------------------------------------------------------- poll and cut

    def _arrive(self, event: Event) -> None:
        tp = event.record.tp
        self._order.setdefault(tp, _Order())
        self._waiting.setdefault(tp, deque()).append(event)
        self._arrived[tp, event.record.offset] = self._now
        self._at(self._now, self._poll)  # together with what arrives at the same moment

    def _poll(self) -> None:
        if self._polling:
            return
        taken: list[Event] = []
        for tp, waiting in self._waiting.items():
            order = self._order[tp]
            # A partition with room is polled, and a poll may bring more than there is room for.
            has_room = order.in_flight < self._model.max_in_flight
            while has_room and waiting and len(taken) < POLL_RECORDS:
                taken.append(event := waiting.popleft())
                order.in_flight += 1
                order.unreleased.append(event.record.offset)
        if taken:
            self._polling = True
            self._work(self._model.delays.intake * len(taken), lambda: self._take(taken))

    def _take(self, events: list[Event]) -> None:
        self._polling = False
        for event in events:
            self._batcher.add(event, self._now)
        self._cut()
        self._poll()

    def _cut(self) -> None:
        while self._slots and len(self._batcher):
            if not self._batcher.is_due(self._now):
                if self._batcher.deadline != self._deadline_at:
                    self._deadline_at = self._batcher.deadline
                    self._at(self._deadline_at, self._cut)
                return
            batch = self._batcher.take()
            self._slots -= 1
            self.result.batches.append(len(batch))
            self._embed(batch)

    # ------------------------------------------------------------------------------------ texts to requests

    def _embed(self, batch: list[Event]) -> None:
        """Each distinct text once: known, on its way for another batch, or asked for now."""
        texts = {self._model.space.prepare(event.text, "document"): None for event in batch}
        elsewhere = [text for text in texts if text in self._flights]
        missing = [text for text in texts if text not in self._flights and text not in self._known]
        self.result.hits += len(batch) - len(missing)
        self._flights |= {text: [] for text in missing}
        left = 1 + len(elsewhere)

        def one_less() -> None:
            nonlocal left
            left -= 1
            if not left:
                self._embedded(batch)

        def landed() -> None:
            for text in missing:
                for then in self._flights.pop(text):
                    then()
            if self._model.remembers:
                self._known.update(missing)
            one_less()

        for text in elsewhere:
            self._flights[text].append(one_less)
        if missing:
            self._dispatch(missing, landed)
        else:
            one_less()

    def _dispatch(self, texts: list[str], then: Then) -> None:
        batch = TextBatch(texts, "document", self._estimator)
        fitting, doubtful, overlong = self._overlong.sort(batch)
        groups = plan(batch.tokens[fitting], batch.sizes[fitting], self._caps.current())
        jobs: list[Callable[[Then], None]] = [
            *(self._request(batch, [fitting[i] for i in group.tolist()]) for group in groups),
            *(self._request(batch, [place]) for place in doubtful),
            *(self._shorten(batch, place) for place in overlong),
        ]
        left = len(jobs)

        def one_less() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for job in jobs:
            job(one_less)

    def _shorten(self, batch: TextBatch, place: int) -> Callable[[Then], None]:
        text = batch.texts[place]
        if self._overlong.policy == "truncate" and (shorter := self._overlong.shortened(text)) is not None:
            batch.shorten(place, shorter)
            return self._request(batch, [place])
        if self._overlong.policy == "chunk" and (parts := self._overlong.parts(text, "document")) is not None:
            return lambda then: self._dispatch(parts, then)
        self.result.rejected += 1
        return lambda then: then()

    def _request(self, batch: TextBatch, places: list[int]) -> Callable[[Then], None]:
        estimate = float(batch.tokens[places].sum())
        size = float(batch.sizes[places].sum())
        texts = [batch.texts[place] for place in places]

        def ask(then: Then) -> None:
            def admitted() -> None:
                ticket = self._quota.take(estimate, len(places), self._now)
                tokens = sum(map(self._tokens, texts))
                self.result.requests.append((len(places), tokens))
                self.result.request_times.append(self._now)
                delays = self._model.delays
                seconds = delays.answer + delays.answer_token * tokens
                self.result.call_seconds += seconds

                def answered() -> None:
                    self._quota.correct(ticket, tokens)
                    self._caps.accepted(len(places), estimate)
                    self._estimator.learn(len(places), size, tokens)
                    self._open_calls -= 1
                    then()
                    self._admit()

                self._work(delays.call, lambda: self._at(self._now + seconds, answered))

            self._calls.append((estimate, len(places), admitted))
            self._admit()

        return ask

    def _admit(self) -> None:
        """First come, first served."""
        while self._calls and self._open_calls < self._model.calls:
            tokens, items, admitted = self._calls[0]
            delay = self._quota.wait(tokens, items, self._now)
            if delay > 0:
                self._held_since = self._now if self._held_since is None else self._held_since
                if self._now + delay != self._admission_at:
                    self._admission_at = self._now + delay
                    self._at(self._admission_at, self._admit)
                return
            if self._held_since is not None:
                self.result.limit_seconds += self._now - self._held_since
                self._held_since = None
            self._calls.popleft()
            self._open_calls += 1
            admitted()

    def _tokens(self, text: str) -> int:
        if text not in self._sizes:
            self._sizes[text] = min(self._model.tokens_of(text), self._model.contract.max_item_tokens)
        return self._sizes[text]

    # ------------------------------------------------------------------------------------------ release in order

    def _embedded(self, batch: list[Event]) -> None:
        self._slots += 1
        released: list[tuple[TopicPartition, int]] = []
        for event in batch:
            tp = event.record.tp
            order = self._order[tp]
            order.settled.add(event.record.offset)
            while order.unreleased and order.unreleased[0] in order.settled:
                offset = order.unreleased.popleft()
                order.settled.discard(offset)
                released.append((tp, offset))
        self._work(
            self._model.delays.output * len(released),
            lambda: self._at(self._now + self._model.delays.publish, lambda: self._complete(released)),
        )
        self._cut()

    def _complete(self, released: list[tuple[TopicPartition, int]]) -> None:
        for tp, offset in released:
            self._order[tp].in_flight -= 1
            self.result.latencies.append(self._now - self._arrived.pop((tp, offset)))
        self.result.ended = self._now
        self._poll()
