"""What a worker would do with given records: which become dead letters, and what the others cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streamer.core.decoding import Decoder
from streamer.core.events import DeadLetter, Event, Origin, Record
from streamer.core.vectors import cache_key
from streamer.embedding.overlong import OverlongTexts
from streamer.embedding.planning import TokenEstimator
from streamer.embedding.prices import Price
from streamer.embedding.text_batch import TextBatch
from streamer.errors import DeadLetterKind
from streamer.forecast.flow_model import FlowModel, Run
from streamer.forecast.simulation import Simulation
from streamer.protocols import Cost

TOO_LONG = "longer than the model reads (input.on_too_long = reject)"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that would become a dead letter. `place`: where it is, as in `reviews.csv:17` or `texts/0/41`."""

    place: str
    kind: DeadLetterKind
    reason: str


@dataclass(slots=True)
class Decoded:
    """What records are. `places`: those of the events."""

    events: list[Event] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    tombstones: int = 0

    @property
    def records(self) -> int:
        return len(self.events) + len(self.refused) + self.tombstones


def decode(records: Iterable[tuple[str, Record]], decoder: Decoder) -> Decoded:
    """Records with their places, decoded as a worker does."""
    found = Decoded()
    for place, record in records:
        result = decoder.decode(record, Origin(record.tp, record.offset, 0))
        if isinstance(result, Event):
            found.events.append(result)
            found.places.append(place)
        elif isinstance(result, DeadLetter):
            found.refused.append(Refused(place, result.kind, result.reason))
        else:
            found.tombstones += 1
    return found


@dataclass(frozen=True, slots=True)
class DryRun:
    """`cached`: distinct texts that the cache has. `perhaps_too_long`: texts that the provider may refuse for their
    length. `seconds`: for all of them as a backlog, in one worker."""

    records: int
    tombstones: int
    refused: Sequence[Refused]
    texts: int
    distinct: int
    cached: int
    perhaps_too_long: int
    batches: int
    requests: int
    tokens: int
    cost: Cost | None
    seconds: float
    run: Run

    @property
    def kinds(self) -> Mapping[DeadLetterKind, int]:
        """Dead letters by kind, the most frequent first."""
        return dict(Counter(letter.kind for letter in self.refused).most_common())


def keys_of(events: Sequence[Event], model: FlowModel) -> dict[bytes, str]:
    """The prepared texts by their keys in the cache."""
    texts = {model.space.prepare(event.text, "document") for event in events}
    return {cache_key(text, "document"): text for text in texts}


def dry_run(decoded: Decoded, model: FlowModel, price: Price | None, cached: Iterable[str] = ()) -> DryRun:
    """`cached`: the prepared texts that the cache has already."""
    known = set(cached)
    refused, too_long, doubtful = list(decoded.refused), set(), 0
    texts = {model.space.prepare(event.text, "document") for event in decoded.events}
    asked = sorted(texts - known)
    overlong = OverlongTexts(model.contract, model.space, model.count_tokens)
    batch = TextBatch(asked, "document", TokenEstimator(None if model.contract.is_local else model.count_tokens))
    _, unsure, certain = overlong.sort(batch)
    if overlong.policy == "reject":
        too_long = {asked[place] for place in certain}
        doubtful = len(unsure)
    for place, event in zip(decoded.places, decoded.events, strict=True):
        if model.space.prepare(event.text, "document") in too_long:
            refused.append(Refused(place, "too_long", TOO_LONG))
    run = Simulation(model, sorted(known)).run([(0.0, event) for event in decoded.events])
    return DryRun(
        records=decoded.records,
        tombstones=decoded.tombstones,
        refused=refused,
        texts=len(decoded.events),
        distinct=len(texts),
        cached=len(texts & known),
        perhaps_too_long=doubtful,
        batches=len(run.batches),
        requests=len(run.requests),
        tokens=run.tokens,
        cost=None if price is None else price.cost(run.tokens),
        seconds=run.ended,
        run=run,
    )
