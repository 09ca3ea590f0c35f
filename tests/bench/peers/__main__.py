"""The same job as users of other libraries would write it: `python -m tests.bench.peers`, a JSON line for each.

Each peer is a program of a few lines (`with_*.py`) in a virtual environment of its own under `build/peers`, made once.
Programs run one at a time, in turns, on the same topic of texts and each into a topic of its own. A figure counts from
the moment at which a tenth of the events is published, so that starting and joining do not count, until all are. The
reference is streamer in the same turn. Without an address it starts the Apache Kafka of deploy/kafka.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import uuid
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import orjson
import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition
from rich.console import Console

from streamer.bench.figures import Figure, Sample
from streamer.bench.job import Stub, settings_of
from streamer.bench.measuring import machine
from streamer.bench.topics import publish_texts, topics
from streamer.commands.bench_view import table
from tests.support.brokers import Java

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ROOT / "build" / "peers"
COMMON = ("numpy", "orjson")
LOOK = 0.05  # seconds
PATIENCE = 300.0
TENTH = 0.1


@dataclass(frozen=True, slots=True)
class Peer:
    """`needs`: what is installed beside numpy and orjson; None for the environment of this process."""

    name: str
    module: str
    needs: tuple[str, ...] | None
    arguments: tuple[str, ...] = ()


PEERS = (
    Peer("streamer", "streamer.bench", None),
    Peer("aiokafka", "tests.bench.peers.with_aiokafka", ("aiokafka", "uvloop")),
    Peer("confluent-kafka", "tests.bench.peers.with_confluent", ("confluent-kafka",)),
    Peer("FastStream, a message at a time", "tests.bench.peers.with_faststream", ("faststream[kafka]", "uvloop")),
    Peer("FastStream, batches", "tests.bench.peers.with_faststream", ("faststream[kafka]", "uvloop"), ("batch",)),
    Peer("Quix Streams", "tests.bench.peers.with_quixstreams", ("quixstreams",)),
)


def python_of(peer: Peer) -> Path:
    """The interpreter of its environment, which is made if need be. Raises CalledProcessError."""
    if peer.needs is None:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer.needs[0].partition("[")[0]
    python = folder / "bin" / "python"
    done = folder / ".done"
    if not done.exists():
        print(f"installing {', '.join(peer.needs)} into {folder.relative_to(ROOT)}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install", *COMMON, *peer.needs]
        subprocess.run(install, check=True)
        done.touch()
    return python


def version_of(peer: Peer, python: Path) -> str:
    package = "embedding-streamer" if peer.needs is None else peer.needs[0].partition("[")[0]
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


class Watch:
    """How much has been published to a topic."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "peers", "enable.auto.commit": False})
        self._seen = 0
        self._tps = [TopicPartition(topic, number, 0) for number in range(partitions)]

    def published(self) -> int:
        try:
            self._seen = sum(self._consumer.get_watermark_offsets(tp, timeout=30, cached=False)[1] for tp in self._tps)
        except KafkaException:  # a topic that is this young has no leader yet
            time.sleep(LOOK)
        return self._seen

    def bytes_of_one(self) -> int:
        """Of the value of the topic's first record."""
        self._consumer.assign(self._tps)
        message = self._consumer.poll(30)
        self._consumer.close()
        assert message is not None, f"{self._tps[0].topic} is empty"
        return len(message.value() or b"")


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[psutil.Process]:
    with log.open("ab") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def spent(process: psutil.Process) -> float:
    """Processor seconds of it and of the processes that it started."""
    return sum(sum(member.cpu_times()[:2]) for member in (process, *process.children(recursive=True)))


def once(peer: Peer, python: Path, job: Mapping[str, Any], log: Path) -> tuple[Sample, float, int]:
    """Events a second with the processor time of each, the largest resident set in MB, and bytes of a value."""
    servers, source, target, events = job["servers"], job["source"], job["target"], job["events"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PEER_SERVERS": servers,
        "PEER_SOURCE": source,
        "PEER_TARGET": target,
        "PEER_GROUP": f"{target}-group",
        "PEER_SPACE": Stub(8).space.id,
        "OPENBLAS_NUM_THREADS": "1",
    }
    arguments = list(peer.arguments)
    if peer.needs is None:
        where = {"overrides": {"kafka.bootstrap_servers": servers}}
        order = {"part": "worker", "where": where, "topic": source, "target": target, "format": "json"}
        arguments = [orjson.dumps(order | {"dimensions": 384}).decode()]
    watch = Watch(servers, target, job["partitions"])
    began = cpu = first = memory = 0.0
    with running([str(python), "-m", peer.module, *arguments], environment, log) as process:
        deadline = time.monotonic() + PATIENCE
        while (count := watch.published()) < events:
            if not began and count >= TENTH * events:
                began, cpu, first = time.perf_counter(), spent(process), count
            memory = max(memory, process.memory_info().rss / 1e6)
            if time.monotonic() > deadline or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                sys.exit(f"{peer.name} published {count} of {events} events; see {log}")
            time.sleep(LOOK)
        seconds, busy = time.perf_counter() - began, spent(process) - cpu
    if not began:
        sys.exit(f"{events} events are too few: {peer.name} published them between two looks")
    done = events - first
    return Sample(done / seconds, 1e6 * busy / done), memory, watch.bytes_of_one()


async def main(servers: str, options: argparse.Namespace) -> None:
    chosen = [peer for peer in PEERS if options.only is None or peer.name.split(",")[0].lower() in options.only]
    pythons = {peer.name: python_of(peer) for peer in chosen}
    settings = settings_of({"overrides": {"kafka.bootstrap_servers": servers}})
    here = machine()
    figures = {
        peer.name: [
            Figure("events", "events/s", "streamer"),
            Figure("processor time of an event", "us", "streamer"),
            Figure("memory", "MB", "streamer"),
        ]
        for peer in chosen
    }
    sizes: dict[str, int] = {}
    source = f"peers-texts-{uuid.uuid4().hex[:8]}"
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    async with topics(settings, options.partitions, source):
        await publish_texts(settings, source, options.events)
        for _ in range(options.runs):
            found: dict[str, tuple[Sample, float, int]] = {}
            for peer in chosen:
                target = f"peers-vectors-{uuid.uuid4().hex[:8]}"
                job = {"servers": servers, "source": source, "target": target}
                job |= {"events": options.events, "partitions": options.partitions}
                async with topics(settings, options.partitions, target):
                    log = ENVIRONMENTS / f"{peer.module.rpartition('.')[2]}.log"
                    run = partial(once, peer, pythons[peer.name], job, log)
                    found[peer.name] = await anyio.to_thread.run_sync(run)
                print(f"{peer.name}: {found[peer.name][0].value:,.0f} events/s", file=sys.stderr)
            ours, our_memory, _ = found["streamer"]
            for name, (sample, memory, size) in found.items():
                rate, cost, room = figures[name]
                rate.add(sample, ours)
                cost.add(Sample(sample.cpu_us or 0.0), Sample(ours.cpu_us or 0.0))
                room.add(Sample(memory), Sample(our_memory))
                sizes[name] = size
    lines = [
        {
            "bench": "peers",
            "parameters": {"peer": peer.name, "version": version_of(peer, pythons[peer.name]), "events": options.events,
                           "partitions": options.partitions, "value_bytes": sizes[peer.name]},
            "runs": options.runs,
            "figures": [figure.document() for figure in figures[peer.name]],
            "peak_rss_bytes": round(1e6 * max(sample.value for sample in figures[peer.name][2].samples)),
            "machine": here,
        }
        for peer in chosen
    ]  # fmt: skip
    for line in lines:
        print(orjson.dumps(line).decode(), flush=True)
    Console(stderr=True, width=160, highlight=False).print(table("peers", lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--only", nargs="*", help="streamer, and others: aiokafka confluent-kafka faststream quix")
    parser.add_argument("--bootstrap-servers", "-b")
    arguments = parser.parse_args()
    if arguments.only is not None:
        arguments.only = {"streamer", *(name.replace("quix", "quix streams") for name in arguments.only)}
    own = None if arguments.bootstrap_servers else Java()
    try:
        address = arguments.bootstrap_servers or (own.bootstrap_servers if own else "")
        anyio.run(main, address, arguments)
    finally:
        if own:
            own.close()
