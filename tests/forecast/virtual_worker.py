"""A worker of real parts in virtual time: what the simulation has to agree with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from streamer.core.decoding import Decoder
from streamer.core.events import Event, Record, TopicPartition
from streamer.embedding.cached import CachedEmbedder
from streamer.embedding.dispatcher import Dispatcher
from streamer.embedding.quota import Quota
from streamer.forecast.flow_model import FlowModel
from streamer.protocols import Answer, Provider
from streamer.testing import MemoryCache, MemorySource
from streamer.worker.encoding import Encoder
from streamer.worker.pipeline import Pipeline
from streamer.worker.settings import PipelineSettings
from tests.embedding.providers import rows
from tests.support.memory_worker import CountingSink


class TimedSource(MemorySource):
    """Each record can be read from its time on."""

    def __init__(self, arrivals: Sequence[tuple[float, Event]]) -> None:
        self.times: dict[TopicPartition, list[float]] = {}
        log: dict[TopicPartition, list[Record]] = {}
        for at, event in arrivals:
            log.setdefault(event.record.tp, []).append(event.record)
            self.times.setdefault(event.record.tp, []).append(at)
        super().__init__(log, max_records=1000)

    async def poll(self, tps: Collection[TopicPartition], timeout: float) -> Sequence[Record]:
        until = anyio.current_time() + timeout
        while True:
            await anyio.lowlevel.checkpoint()
            now = anyio.current_time()
            found: list[Record] = []
            for tp in tps:
                start = end = self.position[tp]
                while end < len(self.log[tp]) and self.times[tp][end] <= now:
                    end += 1
                self.position[tp] = end
                found += self.log[tp][start:end]
            if found or now >= until:
                return found
            following = [self.times[tp][self.position[tp]] for tp in tps if self.position[tp] < len(self.log[tp])]
            await anyio.sleep(max(0.0, min([until, *following]) - now))


@dataclass
class ModelledProvider:
    """Answers after the seconds of the model and counts tokens as it does."""

    model: FlowModel
    requests: list[tuple[int, int]] = field(default_factory=list)

    @property
    def space(self) -> object:
        return self.model.space

    async def embed(self, texts: Sequence[str], purpose: str) -> Answer:
        del purpose
        counts = [self.model.tokens_of(text) for text in texts]
        self.requests.append((len(texts), sum(counts)))
        delays = self.model.delays
        await anyio.sleep(delays.answer + delays.answer_token * sum(counts))
        return Answer(rows(texts, self.model.space.dimensions), tokens=list(counts))

    async def aclose(self) -> None:
        return None


@dataclass
class WorkerRun:
    batches: int
    requests: list[tuple[int, int]]
    seconds: float


async def run_worker(model: FlowModel, arrivals: Sequence[tuple[float, Event]]) -> WorkerRun:
    """Until every event is acknowledged."""
    source, sink, served = TimedSource(arrivals), CountingSink(len(arrivals)), ModelledProvider(model)
    provider: Provider = served  # type: ignore[assignment]
    quota = Quota(
        requests_per_minute=model.requests_per_minute,
        tokens_per_minute=model.tokens_per_minute,
        items_per_minute=model.items_per_minute,
    )
    dispatcher = Dispatcher(
        provider, model.contract, limits=quota, concurrency=model.calls, count_tokens=model.count_tokens
    )
    settings = PipelineSettings(
        batch=model.batch,
        max_batches=model.max_batches,
        max_in_flight_events=model.max_in_flight,
        max_in_flight_bytes=10**9,
        commit_interval=10.0,
        drain_timeout=5.0,
    )
    embedder = CachedEmbedder(dispatcher, MemoryCache() if model.remembers else None)
    encoder = Encoder(space=model.space, vectors_topic="vectors", dead_letters_topic="dead")
    flow = Pipeline(
        source, embedder, sink, Decoder(format="text"), encoder, settings,
        clock=anyio.current_time,
    )  # fmt: skip
    begun = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        await flow.on_assigned(list(source.log))
        tasks.start_soon(flow.run)
        await sink.done.wait()
        seconds = anyio.current_time() - begun
        flow.stop()
    return WorkerRun(flow.statistics().batches_total, served.requests, seconds)
