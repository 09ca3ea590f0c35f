"""What measuring costs: a worker's flow in memory, with its measurements and with none, in turns.

    python -m tests.bench.measuring --events 60000 --rounds 5

Prints one JSON line: microseconds of processor time for each event, the least of each kind, and what measuring takes of
them. The Kafka client, which costs as much again, is left out, so the share is larger here than in a worker.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Collection, Mapping, Sequence

import anyio
import anyio.lowlevel
import numpy as np
import orjson
import structlog

from streamer.core.decoding import Decoder
from streamer.core.events import Message, Outcome, Record, TopicPartition
from streamer.core.vectors import Purpose, Space
from streamer.embedding.cached import CachedEmbedder
from streamer.protocols import Acknowledgement, Embedding, Rejection
from streamer.worker.batching import BatchPolicy, Cut
from streamer.worker.encoding import Encoder
from streamer.worker.pipeline import Pipeline
from streamer.worker.settings import PipelineSettings
from streamer.worker.statistics import FlowTimes

SPACE = Space(provider="stub", model="stub", dimensions=384)
PARTITIONS = [TopicPartition("texts", n) for n in range(4)]
PER_POLL = 250


class NoTimes(FlowTimes):
    """Measures nothing."""

    def read(self, newest_ms: int, wall: float, now: float) -> None: ...

    def cut(self, cut: Cut, size: int, oldest: float, slot_free_since: float, now: float) -> None: ...

    def published(self, outcomes: Sequence[Outcome], seconds: float, wall: float) -> None: ...


class Stub:
    """Vectors at no cost."""

    space = SPACE

    def __init__(self) -> None:
        self._vectors = np.random.default_rng(0).standard_normal((4096, SPACE.dimensions)).astype(np.float32)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    log = Log(given.events)
    costs: dict[str, list[float]] = {"measured": [], "unmeasured": []}
    for _ in range(given.rounds):
        for name, kind in (("unmeasured", NoTimes), ("measured", FlowTimes)):
            spent = anyio.run(per_event, log, kind(), backend_options={"use_uvloop": True})
            costs[name].append(spent)
    least = {name: round(min(values), 2) for name, values in costs.items()}
    share = least["measured"] / least["unmeasured"] - 1
    print(orjson.dumps({"events": log.events, **least, "share": round(share, 4)}).decode())


if __name__ == "__main__":
    main()
