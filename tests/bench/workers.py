"""What `streamer run --workers N` gains, with all vectors in the cache file: the rest is the workers' own cost.

    python -m tests.bench.workers --events 60000 --workers 1,2 [--bootstrap-servers HOST:PORT]

Without an address it starts the Apache Kafka of deploy/kafka. Prints one JSON line for each number of workers: events a
second by the clock, and the processor time that an event takes in all workers, and in the broker if it is ours. The
clock says what this machine has left beside the broker; processor time says whether workers hinder each other.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from pathlib import Path

import anyio
import orjson
import psutil

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.topics import TopicSpec, check_topics
from tests.support.brokers import Java
from tests.support.processes import StreamerProcess
from tests.support.stages import free_port
from tests.support.topics import committed, produce
from tests.support.vendors.openai import FakeOpenAI

PARTITIONS = 4
DISTINCT = 1000
DIMENSIONS = 384


async def once(servers: str, broker: psutil.Process | None, folder: Path, workers: int, events: int) -> None:
    run = uuid.uuid4().hex[:8]
    topic = f"texts-{run}"
    specs = [TopicSpec(name, PARTITIONS) for name in (topic, f"vectors-{run}", f"dead-{run}")]
    await check_topics(KafkaConnection(bootstrap_servers=servers), specs, create=True)
    pairs = [(b"%d" % n, b"text number %d says hello to the world" % (n % DISTINCT)) for n in range(events + DISTINCT)]
    async with FakeOpenAI(key="sk-test") as service:
        process = StreamerProcess(
            "run",
            {
                "kafka.bootstrap_servers": servers, "kafka.group_id": run, "topics.input": topic,
                "topics.vectors": f"vectors-{run}", "topics.dead_letters": f"dead-{run}",
                "cache.path": folder / "cache.sqlite", "http.worker_port": (port := free_port()),
                "provider.name": "openai", "provider.model": "text-embedding-3-small",
                "provider.dimensions": DIMENSIONS, "provider.base_url": service.base_url, "provider.api_key": "sk-test",
            },
            *(["--workers", str(workers)] if workers > 1 else []),
        )  # fmt: skip
        try:
            await process.ready(port)
            ends = await produce(servers, topic, pairs[:DISTINCT])  # the cache has all of them from here on
            await until(servers, run, topic, ends)
            members = [psutil.Process(process.process.pid), *psutil.Process(process.process.pid).children()]
            before, own = [busy(member) for member in members], busy(broker)
            began = time.perf_counter()
            ends |= await produce(servers, topic, pairs[DISTINCT:])
            filled = time.perf_counter() - began
            await until(servers, run, topic, ends)
            seconds = time.perf_counter() - began
            spent = [busy(member) - was for member, was in zip(members, before, strict=True)]
            print(
                orjson.dumps(
                    {
                        "bench": "workers", "workers": workers, "events": events,
                        "events_per_second": round(events / seconds), "seconds_to_produce": round(filled, 1),
                        "cpu_microseconds_an_event": round(1e6 * sum(spent) / events),
                        "cpu_seconds_of_each_process": [round(s, 1) for s in spent],
                        "broker_cpu_microseconds_an_event": round(1e6 * (busy(broker) - own) / events),
                        "requests": len(service.requests),
                    }
                ).decode(),
                flush=True,
            )  # fmt: skip
        finally:
            process.close()


def busy(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


async def until(servers: str, group: str, topic: str, ends: dict[int, int]) -> None:
    while True:
        done = await committed(servers, group, topic)
        if all(done.get(partition, 0) >= end for partition, end in ends.items()):
            return
        await anyio.sleep(0.1)


async def main(servers: str, broker: psutil.Process | None, events: int, counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for workers in counts:
            await once(servers, broker, Path(folder), workers, events)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    java = None if arguments.bootstrap_servers else Java()
    try:
        servers = arguments.bootstrap_servers or (java.bootstrap_servers if java else "")
        children = psutil.Process().children(recursive=True)
        broker = next((child for child in children if "java" in child.name()), None)
        anyio.run(main, servers, broker, arguments.events, [int(count) for count in arguments.workers.split(",")])
    finally:
        if java:
            java.close()
