"""What measuring costs: a worker's flow in memory, with its measurements and with none, in turns; and what goes on
beside it all the time: looks at every state, the charts of the page, and Prometheus.

    python -m tests.bench.measuring --events 60000 --rounds 5 --seconds 30

Prints one JSON line: microseconds of processor time for each event, the least of each kind; those of them that are
spent in measuring, looked at by a clock of its own (`inside`), and their share; the share of one processor that what
goes on beside takes (`beside`). The Kafka client, which costs as much again, is left out: in a worker the share is half
of it.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import orjson
import structlog
from starlette.requests import Request

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.source import KafkaSource
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.app.embedder import open_embedding
from streamer.app.http import build_info
from streamer.app.loop_lag import LoopLag
from streamer.app.outages import watch_outages
from streamer.app.sampling import sample_regularly
from streamer.app.worker_overview import WorkerOverview
from streamer.app.worker_state import Worker
from streamer.core.decoding import Decoder
from streamer.core.events import Message, Outcome, Record, TopicPartition
from streamer.core.vectors import Purpose, Space, unit_rows
from streamer.embedding.cached import CachedEmbedder
from streamer.http.history import History
from streamer.http.metrics import metrics_endpoint
from streamer.protocols import Acknowledgement, Embedding, Rejection
from streamer.settings import Settings
from streamer.testing import HashProvider
from streamer.worker.batching import BatchPolicy, Cut
from streamer.worker.encoding import Encoder
from streamer.worker.pipeline import Pipeline
from streamer.worker.settings import PipelineSettings
from streamer.worker.statistics import FlowTimes
from tests.worker.flows import pipeline

SPACE = Space(provider="stub", model="stub", dimensions=384)
PARTITIONS = [TopicPartition("texts", n) for n in range(4)]
PER_POLL = 250
SCRAPE_SECONDS = 15.0


class NoTimes(FlowTimes):
    """Measures nothing."""

    def read(self, newest_ms: int, wall: float, now: float) -> None: ...

    def cut(self, cut: Cut, size: int, oldest: float, slot_free_since: float, now: float) -> None: ...

    def published(self, outcomes: Sequence[Outcome], seconds: float, wall: float) -> None: ...


class TimedTimes(FlowTimes):
    """Measures, and how long that takes: the difference of two runs of seconds is lost in what the machine does."""

    spent = 0  # nanoseconds

    def read(self, newest_ms: int, wall: float, now: float) -> None:
        begun = time.thread_time_ns()
        super().read(newest_ms, wall, now)
        self.spent += time.thread_time_ns() - begun

    def cut(self, cut: Cut, size: int, oldest: float, slot_free_since: float, now: float) -> None:
        begun = time.thread_time_ns()
        super().cut(cut, size, oldest, slot_free_since, now)
        self.spent += time.thread_time_ns() - begun

    def published(self, outcomes: Sequence[Outcome], seconds: float, wall: float) -> None:
        begun = time.thread_time_ns()
        super().published(outcomes, seconds, wall)
        self.spent += time.thread_time_ns() - begun


class Stub:
    """Vectors at no cost."""

    space = SPACE

    def __init__(self) -> None:
        self._vectors = unit_rows(np.random.default_rng(0).standard_normal((4096, SPACE.dimensions)))

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        await anyio.lowlevel.checkpoint()
        return [Embedding(self._vectors[n % 4096], 5, False) for n in range(len(texts))]


class Log:
    def __init__(self, events: int) -> None:
        count = events // len(PARTITIONS)
        self.records = {
            tp: [
                Record(tp, n, b"%d" % n, orjson.dumps({"text": f"event {n} says hello to the world", "n": n}), n)
                for n in range(count)
            ]
            for tp in PARTITIONS
        }
        self.events = count * len(PARTITIONS)
        self.at = dict.fromkeys(PARTITIONS, 0)

    async def poll(self, tps: Collection[TopicPartition], timeout: float) -> Sequence[Record]:
        found: list[Record] = []
        for tp in tps:
            part = self.records[tp][self.at[tp] : self.at[tp] + PER_POLL]
            self.at[tp] += len(part)
            found += part
        if not found:
            await anyio.sleep(min(timeout, 0.01))
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...


class Sink:
    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        return anyio.lowlevel.checkpoint


async def per_event(log: Log, times: FlowTimes) -> float:
    """Microseconds of processor time."""
    log.at = dict.fromkeys(PARTITIONS, 0)
    settings = PipelineSettings(
        batch=BatchPolicy(), max_batches=2, max_in_flight_events=4000, max_in_flight_bytes=16_000_000,
        commit_interval=1.0, drain_timeout=10.0,
    )  # fmt: skip
    encoder = Encoder(space=SPACE, vectors_topic="vectors", dead_letters_topic="dead-letters")
    flow = Pipeline(log, CachedEmbedder(Stub(), None), Sink(), Decoder(), encoder, settings)
    flow.times = flow._outbox._times = times
    async with anyio.create_task_group() as tasks:
        await flow.on_assigned(PARTITIONS)
        begun = time.process_time()
        tasks.start_soon(flow.run)
        while flow.statistics().embedded_total < log.events:  # noqa: ASYNC110 - as seldom as that it costs nothing
            await anyio.sleep(0.02)
        spent = time.process_time() - begun
        flow.stop()
    return spent / log.events * 1e6


async def beside(log: Log, seconds: float) -> float:
    """The share of a processor that a worker takes for looking after itself, once its histograms are full. A scrape
    every 15 seconds, which is what Prometheus does by itself."""
    log.at = dict.fromkeys(PARTITIONS, 0)
    reader: Any = log
    sink: Any = Sink()
    nowhere = KafkaConnection(bootstrap_servers="127.0.0.1:9")
    settings = Settings.model_validate({"cache": {"enabled": False}, "provider": {"price_per_million_tokens": 0.02}})
    async with open_embedding(settings, own=HashProvider()) as embedding, anyio.create_task_group() as tasks:
        flow = pipeline(reader, embedding.embedder, sink, max_in_flight=4000, commit_interval=1.0, poll_timeout=0.5)
        source, lag = KafkaSource(nowhere, ["texts"], "g"), LoopLag()
        worker = Worker(flow, embedding, source, KafkaTransactions(nowhere, "g"), lag, "g")
        overview = WorkerOverview.of(worker, embedding.embedder.space, flow.recent_dead_letters)
        scrape = metrics_endpoint("streamer_worker", [worker.statistics], build_info("worker", SPACE))
        await flow.on_assigned(PARTITIONS)
        tasks.start_soon(flow.run)
        while flow.statistics().embedded_total < log.events:  # noqa: ASYNC110 - as seldom as that it costs nothing
            await anyio.sleep(0.1)
        flow.stop()
        await anyio.sleep(1.0)
        for watch in (lag.watch, worker.conditions.watch):
            tasks.start_soon(watch)
        tasks.start_soon(watch_outages, worker.states())
        tasks.start_soon(sample_regularly, History(), overview.sample)
        begun, until = time.process_time(), time.monotonic() + seconds
        while time.monotonic() < until:
            scrape(Request({"type": "http", "headers": []}))
            await anyio.sleep(SCRAPE_SECONDS)
        spent = time.process_time() - begun
        passed = time.monotonic() - until + seconds
        tasks.cancel_scope.cancel()
    return spent / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    log = Log(given.events)
    costs: dict[str, list[float]] = {"measured": [], "unmeasured": []}
    for _ in range(given.rounds):
        for name, kind in (("unmeasured", NoTimes), ("measured", FlowTimes)):
            spent = anyio.run(per_event, log, kind(), backend_options={"use_uvloop": True})
            costs[name].append(spent)
    insides = []
    for _ in range(given.rounds):
        times = TimedTimes()
        anyio.run(per_event, log, times, backend_options={"use_uvloop": True})
        insides.append(times.spent / log.events / 1000)
    least = {name: round(min(values), 2) for name, values in {**costs, "inside": insides}.items()}
    share = least["inside"] / least["unmeasured"]
    always = anyio.run(beside, log, given.seconds, backend_options={"use_uvloop": True})
    found = {"events": log.events, **least, "share": round(share, 4), "beside": round(always, 4)}
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    main()
