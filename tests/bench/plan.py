"""What `streamer plan` and `streamer try` foretell, beside a real worker process on a broker and a fake service.

    python -m tests.bench.plan [--bootstrap-servers HOST:PORT]

Two runs: a backlog, which the worker works off as fast as it can, and a stream of 150 events a second. Prints one JSON
line a run: requests, seconds and latencies as they were and as they were foretold, and the worst ratio of the two.
Without an address it starts the Apache Kafka of deploy/kafka.
"""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import httpx
import orjson
from aiokafka import AIOKafkaProducer

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.topics import TopicSpec, check_topics
from streamer.app.forecast import delays_for, model_for
from streamer.app.providers import contract_of, remote_space
from streamer.forecast.flow_model import Run, percentile
from streamer.forecast.simulation import Simulation
from streamer.forecast.workload import Arrivals, backlog, steady, text_of
from streamer.settings import load_settings
from tests.support.brokers import Java
from tests.support.processes import StreamerProcess
from tests.support.stages import free_port
from tests.support.topics import from_the_beginning
from tests.support.vendors.openai import FakeOpenAI

PARTITIONS = 4
TOKENS = 40
ANSWER_SECONDS = 0.25
BACKLOG, RATE, SECONDS = 6_000, 150.0, 20.0
OPTIONS: dict[str, Any] = {
    "provider.name": "openai",
    "provider.dimensions": 64,
    "provider.api_key": "sk-test",
    "provider.max_concurrent_requests": 4,
    "batch.max_events": 64,
    "cache.enabled": "false",
    "kafka.session_timeout_ms": 6000,
}


class Stage:
    """Topics, a service and a worker process of one run."""

    def __init__(self, servers: str, service: FakeOpenAI) -> None:
        run = uuid.uuid4().hex[:8]
        self.servers, self.service, self.port = servers, service, free_port()
        self.texts, self.vectors = f"texts-{run}", f"vectors-{run}"
        self.settings = OPTIONS | {
            "kafka.bootstrap_servers": servers,
            "kafka.group_id": f"group-{run}",
            "topics.input": self.texts,
            "topics.vectors": self.vectors,
            "topics.dead_letters": f"dead-{run}",
            "topics.verdicts": f"verdicts-{run}",
            "provider.base_url": service.base_url,
            "http.worker_port": self.port,
        }

    async def create(self) -> None:
        specs = [TopicSpec(name, PARTITIONS) for name in (self.texts, self.vectors)]
        await check_topics(KafkaConnection(bootstrap_servers=self.servers), specs, create=True)

    async def produce(self, arrivals: Arrivals) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.servers, linger_ms=1)
        await producer.start()
        begun = time.monotonic()
        try:
            for at, event in arrivals:
                await anyio.sleep(max(0.0, begun + at - time.monotonic()))
                await producer.send(self.texts, event.text.encode(), partition=event.record.tp.partition)
            await producer.flush()
        finally:
            await producer.stop()

    async def measured(self, count: int, feed: Callable[[], Any] | None) -> tuple[list[float], float, float]:
        """Latencies of all vector events from their records' timestamps, the moment of the last, and the seconds that
        an answer took in the mean: on a machine that others use, the service is slower than it was told to be."""
        latencies: list[float] = []
        async with from_the_beginning(self.servers, self.vectors) as consumer, anyio.create_task_group() as tasks:
            worker = StreamerProcess("run", self.settings)
            try:
                await worker.ready(self.port)
                if feed is not None:
                    tasks.start_soon(feed)
                while len(latencies) < count:
                    for batch in (await consumer.getmany(timeout_ms=20)).values():
                        now = time.time()
                        latencies += [now - record.timestamp / 1000 for record in batch]
                ended = time.monotonic()
                answer = await self.answer_seconds()
            finally:
                worker.process.terminate()
                await worker.wait()
                worker.close()
        return latencies, ended, answer

    async def answer_seconds(self) -> float:
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"http://127.0.0.1:{self.port}/metrics")).text.splitlines()
        name = "streamer_worker_stage_seconds"
        total, count = (
            sum(float(line.split()[1]) for line in lines if line.startswith(f'{name}_{part}{{stage="provider"}}'))
            for part in ("sum", "count")
        )
        return total / count


def foretold(arrivals: Arrivals, answer: float) -> Run:
    settings = load_settings(None, {}, OPTIONS)
    contract = contract_of(settings)
    space = remote_space(settings, contract)
    model = model_for(settings, contract, space, delays_for(settings, contract, space.dimensions, answer))
    return Simulation(model).run(arrivals)


def report(name: str, answer: float, pairs: dict[str, tuple[float, float]]) -> None:
    """`pairs`: measured and foretold, by what it is."""
    ratios = [seen / told for seen, told in pairs.values()]
    worst = max(ratios, key=lambda ratio: max(ratio, 1 / ratio))
    figures = {what: [round(seen, 3), round(told, 3)] for what, (seen, told) in pairs.items()}
    line = {"bench": "plan", "run": name, "answer_seconds": round(answer, 3), "measured_foretold": figures}
    print(orjson.dumps(line | {"worst": round(worst, 3)}).decode())


async def compare(servers: str, name: str, arrivals: Sequence[tuple[float, Any]]) -> None:
    async with FakeOpenAI(key="sk-test") as service:
        service.latency = lambda _: ANSWER_SECONDS
        stage = Stage(servers, service)
        await stage.create()
        is_stream = arrivals[-1][0] > 0
        if not is_stream:
            await stage.produce(arrivals)
        latencies, ended, answer = await stage.measured(
            len(arrivals), (lambda: stage.produce(arrivals)) if is_stream else None
        )
        first = service.requests[0].arrived
        requests = len(service.requests)
    told = foretold(arrivals, answer)
    pairs = {
        "requests": (float(requests), float(len(told.requests))),
        "seconds": (ended - first, told.ended - told.request_times[0]),
    }
    if is_stream:
        for share in (0.5, 0.95):
            pairs[f"latency_p{share * 100:.0f}"] = (percentile(latencies, share), percentile(told.latencies, share))
    report(name, answer, pairs)


async def main(servers: str) -> None:
    texts = [text_of(TOKENS, number) for number in range(BACKLOG)]
    await compare(servers, "backlog", backlog(texts, PARTITIONS))
    await compare(servers, "stream", steady(int(RATE * SECONDS), RATE, TOKENS, PARTITIONS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    own = None if arguments.bootstrap_servers else Java()
    try:
        anyio.run(main, arguments.bootstrap_servers or (own.bootstrap_servers if own else ""))
    finally:
        if own:
            own.close()
