"""Each trouble is caused, told from all others by one expression on the metrics, and clears by itself.

Of real parts, connected to nothing, on a virtual clock; with brokers, processes and a real Prometheus:
tests/faults/test_troubles.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import KafkaError
from starlette.requests import Request

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.source import KafkaSource
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.app.embedder import open_embedding
from streamer.app.http import build_info
from streamer.app.loop_lag import LoopLag
from streamer.app.worker_state import Worker
from streamer.core.events import Record, TopicPartition
from streamer.embedding.budget import Budget, SpendLimits
from streamer.errors import ProviderBlocked, RetriableError
from streamer.http.metrics import metrics_endpoint
from streamer.settings import Settings
from streamer.telemetry.commit_health import UNANSWERED
from streamer.testing import SPACE, HashProvider, MemorySink, MemorySource
from tests.deploy.manifests import tool
from tests.support.fakes import MemoryLedger
from tests.support.indexing import Running, Topic
from tests.support.troubles import TROUBLES, Scrape, firing
from tests.support.virtual_time import VirtualTimeLoop
from tests.worker.flows import pipeline

pytestmark = pytest.mark.anyio
A, B = TopicPartition("texts", 0), TopicPartition("texts", 1)
SETTINGS = Settings.model_validate({"cache": {"enabled": False}})
NOWHERE = KafkaConnection(bootstrap_servers="127.0.0.1:9")
WALL = 1_750_000_000.0


@pytest.fixture(params=["virtual"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return ("asyncio", {"loop_factory": VirtualTimeLoop}) if request.param == "virtual" else "asyncio"


class Source(KafkaSource):
    """Brokers that tell where logs end, and are not asked for anything else."""

    def __init__(self) -> None:
        super().__init__(NOWHERE, ["texts"], "g", clock=anyio.current_time)
        self.ends: dict[TopicPartition, int] = {A: 0, B: 0}

    async def end_offsets(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {tp: self.ends[tp] for tp in tps}

    async def committed(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(tps, 0)


class Reader(MemorySource):
    """Answers late when there is nothing, as brokers do: on a virtual clock, a poll every 2 ms is most of a test."""

    async def poll(self, tps: Collection[TopicPartition], timeout: float) -> Sequence[Record]:
        found = await super().poll(tps, timeout)
        if not found:
            await anyio.sleep(timeout)
        return found


class Deployment:
    """One worker: what its surroundings are, and what it tells."""

    def __init__(self, worker: Worker, source: Source, provider: HashProvider, reader: MemorySource) -> None:
        self.worker = worker
        self.source = source
        self.provider = provider
        self.reader = reader
        self.day = 0  # since the beginning of the test, for whoever counts money
        self.cache_says: str | None = None

    def state(self) -> str | None:
        """Of the cache."""
        return self.cache_says

    def write(self, count: int, value: bytes = b'{"text": "t%d"}', timestamp: float = WALL) -> None:
        """Records for the first partition, of different texts."""
        log = list(self.reader.log[A])
        log += [
            Record(A, n, b"k", value % n if b"%" in value else value, int(timestamp * 1000))
            for n in range(len(log), len(log) + count)
        ]
        self.reader.log = {**self.reader.log, A: log}
        self.source.ends[A] = len(log)

    async def told(self) -> set[str]:
        """The troubles that the metrics tell of after a while."""
        await anyio.sleep(10)
        await self.worker.lag.look()
        return firing([Scrape("worker", "w", text_of(self.worker.statistics))])


def text_of(read: Callable[[], object], prefix: str = "streamer_worker", role: str = "worker") -> str:
    scrape = metrics_endpoint(prefix, [read], build_info(role, SPACE))
    return bytes(scrape(Request({"type": "http", "headers": []})).body).decode()


def check_with_promtool(text: str) -> None:
    """It finds nothing to improve, where it is installed; of real processes: tests/faults/test_troubles.py."""
    if (program := tool("promtool")) is not None:
        found = subprocess.run([program, "check", "metrics"], input=text.encode(), capture_output=True, check=False)
        assert (found.returncode, found.stdout + found.stderr) == (0, b"")


@asynccontextmanager
async def deployment() -> AsyncIterator[Deployment]:
    provider, reader, source = HashProvider(), Reader({A: [], B: []}), Source()
    async with open_embedding(SETTINGS, own=provider) as embedding:
        flow = pipeline(
            reader, embedding.embedder, MemorySink(), clock=anyio.current_time, wall_clock=lambda: WALL,
            max_in_flight=4000, commit_interval=1.0, poll_timeout=0.5,
        )  # fmt: skip
        transactions = KafkaTransactions(NOWHERE, "g")
        worker = Worker(flow, embedding, source, transactions, LoopLag(), "g")
        this = Deployment(worker, source, provider, reader)
        caches: Any = _Caches(this)
        worker._embedding = replace(embedding, caches=caches)
        embedding.dispatcher._gate._budget = Budget(
            MemoryLedger(), price=None, limits=SpendLimits(tokens_per_day=1500), clock=lambda: WALL + 86_400 * this.day
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flow.run)
            await flow.on_assigned([A, B])
            this.write(5)
            yield this
            this.provider.failure = None
            this.day += 1
            flow.stop()


class _Caches:
    """Stands for files that are well or not."""

    file = server = together = recent = None

    def __init__(self, this: Deployment) -> None:
        self.state = this.state


Step = Callable[[Deployment], Awaitable[None]]


def failing(error: Exception | None) -> Step:
    async def step(this: Deployment) -> None:
        this.provider.failure = error
        this.write(20)

    return step


async def ask_for_more_than_may_be_spent(this: Deployment) -> None:
    this.write(2000)


async def the_next_day(this: Deployment) -> None:
    this.day += 1
    this.write(1)


async def a_damaged_batch(this: Deployment) -> None:
    for _ in range(3):
        this.source._assignment.failed([ClientPartition(*B)], KafkaError("the batch is damaged"))


async def it_can_be_read_again(this: Deployment) -> None:
    await anyio.sleep(10)
    assert this.source._assignment.readable([B])
    this.source._assignment.handed_over([ClientPartition(*B)], {})


async def records_of_another_shape(this: Deployment) -> None:
    this.write(150, b'{"body": "t"}')


async def good_ones(this: Deployment) -> None:
    this.write(150)


async def more_than_it_can_read(this: Deployment) -> None:
    this.source.ends[A] += 5000


async def read_after_all(this: Deployment) -> None:
    this.source.ends[A] = len(this.reader.log[A])


async def commits_hang(this: Deployment) -> None:
    commit, this.held = this.reader.commit, anyio.Event()  # type: ignore[attr-defined]

    async def held_back(offsets: dict[TopicPartition, int]) -> None:
        await this.held.wait()  # type: ignore[attr-defined]
        await commit(offsets)

    this.reader.commit = held_back  # type: ignore[method-assign, assignment]
    this.write(5)
    await anyio.sleep(90)


async def commits_go_on(this: Deployment) -> None:
    this.held.set()  # type: ignore[attr-defined]


async def a_clock_that_is_ahead(this: Deployment) -> None:
    this.write(1, timestamp=WALL + 600)


async def a_minute_later(this: Deployment) -> None:
    this.write(1)
    await anyio.sleep(70)


def cache(says: str | None) -> Step:
    async def step(this: Deployment) -> None:
        this.cache_says = says

    return step


CAUSES: Mapping[str, tuple[Step, Step]] = {
    "provider down": (failing(RetriableError("answered 500")), failing(None)),
    "quota used up": (failing(ProviderBlocked("answered 429", cause="quota")), failing(None)),
    "key rejected": (failing(ProviderBlocked("answered 401", cause="key")), failing(None)),
    "spend limit": (ask_for_more_than_may_be_spent, the_next_day),
    "partition stuck": (a_damaged_batch, it_can_be_read_again),
    "dead-letter flood": (records_of_another_shape, good_ones),
    "lag grows": (more_than_it_can_read, read_after_all),
    "commit old": (commits_hang, commits_go_on),
    "clock of records ahead": (a_clock_that_is_ahead, a_minute_later),
    "cache off": (cache("file is not a database"), cache(None)),
    "disk full": (cache("database or disk is full"), cache(None)),
}


LACKS = {"commit old": f"commits: {UNANSWERED}", "cache off": "cache: file", "disk full": "cache: database or disk"}


@pytest.mark.parametrize("trouble", CAUSES)
async def test_a_trouble_of_a_worker_is_told_from_all_others_and_clears(trouble: str) -> None:
    """First hour D2."""
    cause, cure = CAUSES[trouble]
    async with deployment() as this:
        assert await this.told() == set()
        await cause(this)
        assert await this.told() == {trouble}
        assert (this.worker.state().without or "").startswith(LACKS.get(trouble, ""))
        await cure(this)
        assert await this.told() == set()


@pytest.mark.parametrize("anyio_backend", ["real"], indirect=True)
async def test_troubles_of_an_indexer(anyio_backend: Any) -> None:
    """First hour D2."""
    topic = Topic()
    topic.append("a", 0)
    this = Running(topic)
    (tp,) = topic.logs

    def scrape() -> Scrape:
        return Scrape("indexer", "i", text_of(this.indexer.statistics, "streamer_indexer", "indexer"))

    this.changelog.stalled.add(tp)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: (this.indexer.ready() or "").startswith("restoring"))
        this.indexer._times.restore_begins(anyio.current_time() - 700)
        assert firing([scrape()]) == {"restore too long"}
        this.changelog.stalled.clear()
        await this.until(lambda: this.indexer.ready() is None)
        before = scrape()
        assert firing([before]) == set()
        this.indexer._state.verdicts["anomaly/form"] += 30
        assert firing([scrape()], [before]) == {"flood of anomalies"}
        assert firing([scrape()], [scrape()]) == set()
        two = [scrape(), replace(scrape(), instance="other")]
        assert firing(two) == {"two indexers"}
        check_with_promtool(scrape().text or "")
        this.indexer.stop()


async def test_a_worker_that_is_gone() -> None:
    async with deployment() as this:
        text = text_of(this.worker.statistics)
    check_with_promtool(text)
    other = Scrape("worker", "other", text)
    assert firing([Scrape("worker", "w", None), other]) == {"worker dead"}
    assert firing([Scrape("worker", "w", text), other]) == set()


def test_every_trouble_is_caused_here() -> None:
    here = {"restore too long", "flood of anomalies", "two indexers", "worker dead"}
    assert CAUSES.keys() | here == TROUBLES.keys()
    assert len(TROUBLES) == 15
