"""A deployment to be hurt: topics, a provider, a producer that keeps a ledger, workers as processes, and samples."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import psutil
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streamer.adapters.kafka import lenient_records  # noqa: F401  # this process, too, reads any names
from tests.faults.checker import Ledger, Sample, Verdict, check
from tests.faults.reader import Reader
from tests.support.brokers import Broker, NewTopicName
from tests.support.hostile import WIDE, Drawn, draw
from tests.support.processes import StreamerProcess
from tests.support.proxy import Proxy
from tests.support.raw_headers import CODECS, raw_batch
from tests.support.stages import free_port
from tests.support.topics import committed, end_offsets, ends_as_read, from_the_beginning
from tests.support.vendors.openai import FakeOpenAI

DIMENSIONS = 16
PARTITIONS = 4
IN_FLIGHT = 300  # events per partition
PER_CRASH = PARTITIONS * IN_FLIGHT  # what one crash may repeat


@dataclass(slots=True)
class Member:
    """One worker's place: its process comes and goes, its port stays. `cache`: the file that all workers share.
    `environ`: what its next process finds in its environment besides."""

    port: int
    settings: dict[str, object]
    environ: dict[str, str] = field(default_factory=dict)
    process: StreamerProcess | None = None
    most_rss: int = 0
    most_files: int = 0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.process.poll() is None

    @property
    def cache(self) -> Path:
        return Path(str(self.settings["cache.path"]))

    def start(self) -> None:
        if self.process is not None:
            self.process.close()
        self.process = StreamerProcess("run", self.settings, environ=self.environ)

    def signal(self, number: signal.Signals) -> None:
        if self.is_running and self.process is not None:
            self.process.send_signal(number)

    def limit(self, resource: int, most: int) -> tuple[int, int]:
        """Lower (or raise again) one of its resource limits, as a container does; what the limits were."""
        assert self.process is not None
        process = psutil.Process(self.process.process.pid)
        soft, hard = process.rlimit(resource)
        process.rlimit(resource, (most, hard))
        return soft, hard

    async def stop(self, timeout: float = 45.0) -> int:
        """The exit code after SIGTERM."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        return await self.process.wait(timeout)

    async def stop_orderly(self) -> None:
        """SIGTERM and exit code 0, unless it was still starting and did not know the signal, or found no broker."""
        code = await self.stop()
        log = self.process.stderr if self.process else ""
        was_starting = "worker started" not in log and code in (-signal.SIGTERM, 3)
        assert code == 0 or was_starting, f"exit {code}:\n{log[-4000:]}"

    async def kill(self) -> None:
        assert self.process is not None
        self.signal(signal.SIGKILL)
        await self.process.wait()

    async def readiness(self) -> str | None:
        """None when ready, else what `/readyz` says."""
        async with httpx.AsyncClient(timeout=5) as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.port}/readyz")
            except httpx.TransportError as exc:
                return repr(exc)
        return None if answer.status_code == 200 else str(answer.json()["error"])

    async def lacks(self) -> str | None:
        """What `/readyz` says that it does without, though it is ready."""
        async with httpx.AsyncClient(timeout=5) as client:
            found: str | None = (await client.get(f"http://127.0.0.1:{self.port}/readyz")).json().get("without")
        return found

    async def says(self, words: str | None, timeout: float = 60.0) -> None:
        """Wait until `/readyz` says why not with these words in it, or (None) that all is well."""
        last: str | None = "nothing yet"
        with anyio.move_on_after(timeout):
            while True:
                last = await self.readiness()
                if last == words or (last is not None and words is not None and words in last):
                    return
                await anyio.sleep(0.1)
        raise AssertionError(f"/readyz says {last!r} and not {words!r} within {timeout:g} s")

    async def metrics(self) -> str:
        async with httpx.AsyncClient(timeout=5) as client:
            try:
                text = (await client.get(f"http://127.0.0.1:{self.port}/metrics")).text
            except httpx.TransportError as exc:
                return repr(exc)
        return "\n".join(line for line in text.splitlines() if not line.startswith("#"))

    async def metric(self, name: str) -> float:
        """Summed over its labels."""
        lines = (await self.metrics()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.replace("{", " ").split()[0] == name)

    def measure(self) -> None:
        if self.is_running and self.process is not None:
            with suppress(psutil.Error):
                process = psutil.Process(self.process.process.pid)
                self.most_rss = max(self.most_rss, process.memory_info().rss)
                self.most_files = max(self.most_files, process.num_fds())


@dataclass(slots=True)
class Scene:
    """`servers` is what the workers connect to; everything else talks to the broker directly. `hostile`: the share of
    what is produced that is drawn from the records of other people."""

    broker: Broker
    servers: str
    provider: FakeOpenAI
    reader: Reader
    texts: str
    vectors: str
    dead_letters: str
    folder: Path
    options: dict[str, object] = field(default_factory=dict)
    hostile: float = 0.0
    members: list[Member] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    samples: list[Sample] = field(default_factory=list)

    @property
    def group(self) -> str:
        return f"group-{self.texts}"

    @property
    def is_exactly_once(self) -> bool:
        return isolation_level(self.options) == "read_committed"

    @property
    def pids(self) -> list[int]:
        """Of the members that run."""
        return [member.process.process.pid for member in self.members if member.process and member.is_running]

    def add_member(self, **options: object) -> Member:
        port = free_port()
        settings: dict[str, object] = {
            "kafka.bootstrap_servers": self.servers,
            "kafka.group_id": self.group,
            "kafka.idempotent": self.broker.is_real,
            "kafka.session_timeout_ms": 6000,
            "topics.input": self.texts,
            "topics.vectors": self.vectors,
            "topics.dead_letters": self.dead_letters,
            "topics.verdicts": f"{self.vectors}-verdicts",
            "cache.path": self.folder / "cache.sqlite",
            "delivery.commit_interval_ms": 200,
            "delivery.drain_timeout_ms": 8000,
            "batch.max_events": 64,
            "batch.max_in_flight_events": IN_FLIGHT,
            "http.worker_port": port,
            "provider.name": "openai",
            "provider.model": "text-embedding-3-small",
            "provider.dimensions": DIMENSIONS,
            "provider.base_url": self.provider.base_url,
            "provider.api_key": self.provider.key or "",
            "provider.timeout_seconds": 5,
        }
        member = Member(port, settings | self.options | {k.replace("__", "."): v for k, v in options.items()})
        self.members.append(member)
        return member

    async def start(self, count: int = 0) -> None:
        """All members that were added and do not run, and so many more; all are ready then."""
        for _ in range(count):
            self.add_member()
        for member in self.members:
            if not member.is_running:
                member.start()
        for member in self.members:
            assert member.process is not None
            await member.process.ready(member.port)

    async def produce(
        self,
        count: int | None = None,
        *,
        rate: float = 0.0,
        seed: int = 0,
        text_of: Callable[[int], str] | None = None,
    ) -> None:
        """`count` events, or without end; noted before they are sent and again when they are acknowledged.

        `text_of`: the text of an event by its number.
        """
        rng = random.Random(seed)
        producer = AIOKafkaProducer(
            bootstrap_servers=self.broker.bootstrap_servers,
            acks="all",
            linger_ms=5,
            enable_idempotence=self.broker.is_real,
            request_timeout_ms=120_000,
        )
        await producer.start()
        try:
            async with anyio.create_task_group() as tasks:
                while count is None or len(self.ledger.attempted) < count:
                    chunk = max(1, int(rate / 10)) if rate else 500
                    if count is not None:
                        chunk = min(chunk, count - len(self.ledger.attempted))
                    for _ in range(chunk):
                        number = len(self.ledger.attempted)
                        if self.hostile and rng.random() < self.hostile:
                            await self._produce_hostile(producer, draw(rng, b"good-%d" % number, number), rng)
                            continue
                        # Some texts come again, as they do: the cache and the single flight have a part in this.
                        text = f"text number {rng.randrange(number + 1) if number % 7 == 6 else number}"
                        if text_of is not None:
                            text = text_of(number)
                        self.ledger.attempted[f"id-{number}"] = text
                        try:
                            sending = await producer.send(self.texts, key=f"id-{number}".encode(), value=text.encode())
                        except KafkaTimeoutError:
                            continue  # no room for minutes, with the broker away: never sent, as far as we know
                        sending.add_done_callback(self._noted(f"id-{number}"))
                    if rate:
                        await anyio.sleep(chunk / rate)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                with suppress(TimeoutError, KafkaError):
                    await asyncio.wait_for(producer.stop(), 60)

    async def _produce_hostile(self, producer: AIOKafkaProducer, drawn: Drawn, rng: random.Random) -> None:
        batch, _ = raw_batch(producer, [(drawn.raw, drawn.timestamp)], rng.choice(list(CODECS)))
        id = (drawn.key or b"").decode("utf-8", "replace")
        if drawn.text is not None:
            self.ledger.attempted[id] = drawn.text
        with suppress(KafkaTimeoutError):
            sending = await producer.send_batch(batch, self.texts, partition=rng.randrange(PARTITIONS))
            sending.add_done_callback(self._noted(id) if drawn.text is not None else _retrieve)

    def _noted(self, id: str) -> Callable[[Any], None]:
        def note(future: Any) -> None:
            if not future.cancelled() and future.exception() is None:
                self.ledger.acknowledged.add(id)

        return note

    async def sample(self) -> None:
        """What is committed, and what is published a moment later. Nothing while the broker is away."""
        task = asyncio.ensure_future(self._sample())
        await asyncio.wait([task], timeout=15)
        if not task.done():
            task.print_stack()
            task.cancel()  # not waited for: a client that lost its broker half-way may never be stopped

    async def _sample(self) -> None:
        servers = self.broker.bootstrap_servers
        with suppress(KafkaError, TimeoutError, OSError):
            async with asyncio.timeout(10):
                done = await committed(servers, self.group, self.texts)
                ends: dict[tuple[str, int], int] = {}
                for topic in (self.vectors, self.dead_letters):
                    ends |= {(tp.topic, tp.partition): end for tp, end in (await self._ends(topic)).items()}
                self.samples.append(Sample(done, ends))

    async def _ends(self, topic: str) -> Mapping[TopicPartition, int]:
        return await (end_offsets if self.broker.is_real else ends_as_read)(self.broker.bootstrap_servers, topic)

    async def watch(self, interval: float = 1.0) -> None:
        """Samples and measurements for as long as it runs."""
        while True:
            for member in self.members:
                member.measure()
            with anyio.CancelScope(shield=True):  # bounded; a client cancelled half-way is never closed
                await self.sample()
            await anyio.sleep(interval)

    async def all_committed(self, timeout: float = 180.0) -> None:
        """Until every input is done."""
        servers = self.broker.bootstrap_servers
        ends: dict[int, int] = {}
        done: dict[int, int] = {}
        with anyio.move_on_after(timeout):
            while True:
                with suppress(KafkaError, OSError):
                    ends = {tp.partition: end for tp, end in (await self._ends(self.texts)).items() if end}
                    done = await committed(servers, self.group, self.texts)
                    if len(ends) and all(done.get(partition, 0) >= end for partition, end in ends.items()):
                        return
                await anyio.sleep(0.2)
        raise AssertionError(f"not caught up within {timeout:g} s: committed {done} of {ends}\n{await self.evidence()}")

    async def evidence(self) -> str:
        """What the members say of themselves."""
        told = []
        for number, member in enumerate(self.members):
            if member.is_running:
                told.append(f"worker {number}: {await member.readiness() or 'ready'}\n{await member.metrics()}")
            if member.process is not None:
                told.append(f"worker {number}:\n{member.process.stderr[-3000:]}")
        return "\n".join(told)

    async def stop(self) -> list[int]:
        """Exit codes of the members that still run."""
        return [await member.stop() for member in self.members if member.is_running]

    async def verdict(self, most_duplicates: int) -> Verdict:
        servers = self.broker.bootstrap_servers
        level = isolation_level(self.options)
        inputs, vectors, dead = [
            await read_everything(servers, topic, isolation)
            for topic, isolation in (
                (self.texts, "read_uncommitted"),
                (self.vectors, level),
                (self.dead_letters, level),
            )
        ]
        await self.sample()
        await self.reader.has_reached({record.partition: record.offset for record in vectors})
        judge = partial(
            check,
            self.ledger,
            inputs,
            vectors,
            dead,
            right_vectors=lambda model, texts: self.provider.expected(texts, model, DIMENSIONS),
            most_duplicates=most_duplicates,
            samples=self.samples[:: max(1, len(self.samples) // 20)],
            seen=self.reader.seen,
        )
        return await anyio.to_thread.run_sync(judge)  # minutes, for a long run

    def close(self) -> None:
        for member in self.members:
            if member.process is not None:
                member.process.close()


def _retrieve(future: Any) -> None:
    if not future.cancelled():
        future.exception()


def isolation_level(options: Mapping[str, object]) -> str:
    return "read_committed" if options.get("delivery.guarantee") == "exactly-once" else "read_uncommitted"


async def read_everything(servers: str, topic: str, level: str) -> list[Any]:
    """All records there are. The end of a topic may be a transaction marker, so it ends when nothing more comes."""
    async with from_the_beginning(servers, topic, level) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        records: list[Any] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
        return records


@asynccontextmanager
async def scene(
    broker: Broker,
    new_topic: NewTopicName,
    folder: Path,
    proxy: Proxy | None = None,
    *,
    hostile: float = 0.0,
    **options: object,
) -> AsyncIterator[Scene]:
    """With a `hostile` share, the input topic takes what the others refuse."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(FakeOpenAI(key="sk-test"))
        provider.latency = lambda number: 0.01 + 0.05 * random.Random(number).random()
        texts = await new_topic("texts", partitions=PARTITIONS, configs=WIDE if hostile else {})
        vectors = await new_topic("vectors", partitions=PARTITIONS)
        dead = await new_topic("dead", configs={"max.message.bytes": "50000"} if hostile else {})
        servers = proxy.address if proxy else broker.bootstrap_servers
        given = {key.replace("__", "."): value for key, value in options.items()}
        reader = Reader(broker.bootstrap_servers, vectors, PARTITIONS, isolation_level(given))
        await stack.enter_async_context(reader)
        made = Scene(broker, servers, provider, reader, texts, vectors, dead, folder, given, hostile)
        stack.callback(made.close)
        yield made
