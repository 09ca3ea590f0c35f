"""What a stream of a given rate takes: workers, partitions, memory, requests and money, and what runs out first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, inf

from streamer.embedding.prices import Price
from streamer.forecast.flow_model import FlowModel, Run, percentile
from streamer.forecast.outlook import Outlook, outlook
from streamer.forecast.simulation import Simulation
from streamer.forecast.workload import BYTES_A_TOKEN, backlog, steady, text_of

HEADROOM = 0.7  # of what a worker can do: the rest is for catching up after a rebalance
PARTITION_BYTES = 10_000_000  # a second that one partition takes with ease; brokers differ
FEWEST_EVENTS, MOST_EVENTS = 2_000, 8_192  # that are simulated
SECONDS = 20.0
MINUTES_A_DAY = 1_440

PER_DAY = {"requests": "requests a day", "tokens": "tokens a day"}
PER_MINUTE = {"requests": "requests a minute", "tokens": "tokens a minute", "items": "texts a minute"}
WORKERS = "events a second of the workers"
INDEXER = "events a second of the indexer"

# A vector in JSON takes so many bytes a component, in float32 4.
JSON_COMPONENT = 12
EVENT_BYTES = 400  # of a vector event beside vector and text: id, headers, source


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """`rate`: events a second. `tokens` of a text. `repeats`: the share of events whose text came before. `backlog`:
    events that wait already."""

    rate: float
    tokens: int
    repeats: float = 0.0
    backlog: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a deployment takes beside the flow, in bytes.

    `indexed`: vectors in the index; `judged`: events a second that an indexer judges with so many vectors.
    """

    worker_bytes: int
    fetched_bytes: int  # ahead, for each partition
    window_bytes: int  # most in flight, for each partition
    is_binary: bool
    includes_text: bool
    indexed: int
    judged: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Of something limited: `needed` of `available` (infinite: unknown or unlimited)."""

    needed: float
    available: float

    @property
    def share(self) -> float:
        return self.needed / self.available if self.available else inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """`latency`: seconds at the 50th and 95th percentile, None where more arrives than is done. `needs`: by name;
    `bottleneck`: the name of the one that runs out first, the indexer only where the workers keep up. `keeps_up`: the
    vectors do, whatever the indexer can.
    """

    workers: int
    partitions: int
    worker_rate: float
    worker_bytes: int
    batch_events: float
    request_texts: float
    request_tokens: float
    latency: tuple[float, float] | None
    input_bytes: float
    output_bytes: float
    needs: Mapping[str, Need]
    bottleneck: str
    keeps_up: bool
    outlook: Outlook
    run: Run


def size(demand: Demand, model: FlowModel, machine: Machine, price: Price | None) -> Sizing:
    """Simulates one worker with as much as it can take, then with its share of the stream.

    The limits of `model` are those of the whole account; each worker gets its share of them.
    """
    model = replace(model, tokens_of=lambda _: demand.tokens)
    unlimited = replace(model, requests_per_minute=None, tokens_per_minute=None, items_per_minute=None)
    worker_rate = capacity(demand, unlimited)
    workers = max(1, ceil(demand.rate / (HEADROOM * worker_rate)))
    event_out = _event_bytes(demand, model, machine)
    partitions = max(2 * workers, ceil(demand.rate * event_out / PARTITION_BYTES))
    share = demand.rate / workers
    mine = max(1, partitions // workers)
    run = Simulation(_shared(model, workers)).run(
        steady(_count(share), share, demand.tokens, mine, repeats=demand.repeats)
    )
    asked = sum(texts for texts, _ in run.requests)
    requests = len(run.requests) / sum(run.batches)  # of an event, in the mean
    new = demand.rate * (1 - demand.repeats)
    account = {
        "requests": Need(needed=60 * demand.rate * requests, available=model.requests_per_minute or inf),
        "tokens": Need(needed=60 * new * demand.tokens, available=model.tokens_per_minute or inf),
        "items": Need(needed=60 * new, available=model.items_per_minute or inf),
    }
    flow = {
        PER_MINUTE[name]: need
        for name, need in account.items()
        if name in model.contract.limits or need.available < inf
    } | {WORKERS: Need(needed=demand.rate, available=workers * worker_rate)}
    for name, daily in (("requests", model.requests_per_day), ("tokens", model.tokens_per_day)):
        if daily is not None:
            flow[PER_DAY[name]] = Need(needed=account[name].needed * MINUTES_A_DAY, available=daily)
    needs = flow | {INDEXER: Need(needed=demand.rate, available=machine.judged)}
    keeps_up = all(need.share <= 1 for need in flow.values())
    first = flow if not keeps_up else needs  # a stream that does not flow is worse than late verdicts
    most = min(demand.rate / need.share if need.share else inf for need in flow.values())
    return Sizing(
        workers=workers,
        partitions=partitions,
        worker_rate=worker_rate,
        worker_bytes=machine.worker_bytes + mine * _partition_bytes(demand, model, machine),
        batch_events=sum(run.batches) / len(run.batches),
        request_texts=asked / len(run.requests) if run.requests else 0.0,
        request_tokens=run.tokens / len(run.requests) if run.requests else 0.0,
        latency=(percentile(run.latencies, 0.5), percentile(run.latencies, 0.95)) if keeps_up else None,
        input_bytes=demand.rate * BYTES_A_TOKEN * demand.tokens,
        output_bytes=demand.rate * event_out,
        needs=needs,
        bottleneck=max(first, key=lambda name: first[name].share),
        keeps_up=keeps_up,
        outlook=outlook(
            rate=demand.rate,
            tokens=demand.tokens * (1 - demand.repeats),
            price=price,
            backlog=demand.backlog,
            capacity=min(most, workers * worker_rate),
        ),
        run=run,
    )


def capacity(demand: Demand, model: FlowModel) -> float:
    """Events a second of one worker that never waits for events: what its processor, or its open calls, allow."""
    count = max(FEWEST_EVENTS, min(MOST_EVENTS, 2 * model.batch.max_events * model.max_batches))
    distinct = max(1, round(count * (1 - demand.repeats)))
    texts = [text_of(demand.tokens, number * distinct // count) for number in range(count)]
    run = Simulation(model).run(backlog(texts, 4))
    bounds = ((1.0, run.processor_seconds), (float(model.calls), run.call_seconds))
    return min(share * count / seconds if seconds else inf for share, seconds in bounds)


def _shared(model: FlowModel, workers: int) -> FlowModel:
    limits = {
        name: limit / workers
        for name in ("requests_per_minute", "tokens_per_minute", "items_per_minute")
        if (limit := getattr(model, name)) is not None
    }
    return replace(model, **limits)


def _count(rate: float) -> int:
    return max(FEWEST_EVENTS, min(MOST_EVENTS, round(rate * SECONDS)))


def _event_bytes(demand: Demand, model: FlowModel, machine: Machine) -> int:
    """Of a vector event on the wire."""
    vector = model.space.dimensions * (4 if machine.is_binary else JSON_COMPONENT)
    return EVENT_BYTES + vector + (BYTES_A_TOKEN * demand.tokens if machine.includes_text else 0)


def _partition_bytes(demand: Demand, model: FlowModel, machine: Machine) -> int:
    """What a full window of one partition takes: the events, and their vectors on the way out."""
    event = BYTES_A_TOKEN * demand.tokens + EVENT_BYTES
    events = min(model.max_in_flight, machine.window_bytes // max(1, BYTES_A_TOKEN * demand.tokens))
    return machine.fetched_bytes + events * (event + 4 * model.space.dimensions)
