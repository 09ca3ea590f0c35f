"""An indexer with a snapshot on a real broker: killed, stopped, its file damaged, its topic made anew."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.topics import find_home
from tests.support.brokers import NewTopicName
from tests.support.processes import StreamerProcess, streamer
from tests.support.stages import DIMENSIONS, Stage
from tests.support.topics import committed, end_offsets, read_all

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


@pytest.fixture
def snapshot(stage: Stage, tmp_path: Path) -> Path:
    path = tmp_path / "index.snapshot"
    stage.settings |= {
        "provider.name": "openai",  # never called: nobody searches by text
        "provider.model": "text-embedding-3-small",
        "provider.dimensions": DIMENSIONS,
        "provider.api_key": "none",
        "cache.enabled": "false",
        "index.snapshot_path": path,
        "index.snapshot_interval_seconds": 1,
    }
    return path


async def ask(stage: Stage, path: str) -> Any:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stage.index_port}") as client:
        return (await client.get(path)).json()


@asynccontextmanager
async def indexing(stage: Stage) -> AsyncIterator[StreamerProcess]:
    with streamer("index", stage.settings) as indexer:
        await indexer.ready(stage.index_port)
        yield indexer


async def stop(indexer: StreamerProcess) -> None:
    indexer.send_signal(signal.SIGTERM)
    assert await indexer.wait() == 0, indexer.stderr


@dataclass
class Stream:
    """Vector events with a number each, told again by their verdicts; `placed`: number -> partition, offset."""

    stage: Stage
    space: str
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    placed: dict[int, tuple[int, int]] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)  # id -> number: what an index of it all holds

    def vector(self, number: int) -> list[float]:
        vector = np.random.default_rng(number).standard_normal(DIMENSIONS)
        return [float(x) for x in (vector / np.linalg.norm(vector)).astype(np.float32)]

    async def produce(self, count: int) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.stage.bootstrap_servers, acks="all")
        await producer.start()
        try:
            sent = [(number, await self._send(producer, number)) for number in self._numbers(count)]
            for number, future in sent:
                record = await future
                if number is not None:
                    self.placed[number] = record.partition, record.offset
        finally:
            await producer.stop()

    def _numbers(self, count: int) -> list[int | None]:
        first = len(self.placed)
        numbers = iter(range(first, first + count))
        return [None if self.rng.random() < 0.1 else next(numbers) for _ in range(count)]

    async def _send(self, producer: AIOKafkaProducer, number: int | None) -> Any:
        id = f"id-{self.rng.randrange(60)}" if number is None or self.rng.random() < 0.3 else f"id-{number}"
        if number is None:
            self.held.pop(id, None)
            return await producer.send(self.stage.vectors, key=id.encode(), value=None)
        self.held[id] = number
        source = {"topic": "texts", "partition": 0, "offset": number}
        event = {"vector": self.vector(number), "space": self.space, "dimensions": DIMENSIONS, "source": source}
        return await producer.send(self.stage.vectors, key=id.encode(), value=orjson.dumps(event))

    async def committed(self) -> dict[int, int]:
        group = f"{self.stage.settings['kafka.group_id']}-verdicts"
        return await committed(self.stage.bootstrap_servers, group, self.stage.vectors)

    async def settle(self) -> None:
        """Until the verdicts of all there is are committed."""
        found = await end_offsets(self.stage.bootstrap_servers, self.stage.vectors)
        ends = {tp.partition: end for tp, end in found.items() if end}
        with anyio.fail_after(60):
            while await self.committed() != ends:  # noqa: ASYNC110 - only asking tells
                await anyio.sleep(0.05)

    async def check_index(self) -> None:
        assert (await ask(self.stage, "/v1/stats"))["vectors"] == len(self.held)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.stage.index_port}") as client:
            for id, number in self.held.items():
                found = (await client.get(f"/v1/vectors/{id}")).json()
                assert found["vector"] == pytest.approx(self.vector(number)), id

    async def verdicts(self) -> Counter[int]:
        records = await read_all(self.stage.bootstrap_servers, self.stage.verdicts)
        return Counter(orjson.loads(record.value)["source"]["offset"] for record in records)


@pytest.mark.real_kafka("end offsets to be relied on")
async def test_killed_again_and_again_it_goes_on_from_its_snapshot(stage: Stage, snapshot: Path) -> None:
    async with indexing(stage) as indexer:
        stream = Stream(stage, (await ask(stage, "/v1/stats"))["space"])
        await stream.produce(300)
        await stream.settle()
        await stop(indexer)
    assert set(await stream.verdicts()) == set(range(len(stream.placed)))
    at_kills: list[tuple[int, dict[int, int]]] = []  # events so far, and what of them was committed
    for _ in range(3):
        await stream.produce(100)
        async with indexing(stage) as indexer:
            told = (await ask(stage, "/v1/stats"))["snapshot"]
            assert (told["loaded"], told["ignored"]) == (True, None), indexer.stderr
            with anyio.fail_after(60):
                while not (await ask(stage, "/v1/stats"))["snapshot"]["saved_total"]:
                    await stream.produce(10)
            await stream.produce(200)
            indexer.send_signal(signal.SIGKILL)
            await indexer.wait()
        at_kills.append((len(stream.placed), await stream.committed()))
    await stream.produce(50)
    async with indexing(stage) as indexer:
        assert (await ask(stage, "/v1/stats"))["snapshot"]["loaded"]
        await stream.settle()
        await stream.check_index()
        await stop(indexer)

    said = await stream.verdicts()
    assert set(said) == set(range(len(stream.placed))), "none lost"
    for number, times in said.items():
        partition, offset = stream.placed[number]
        uncommitted = sum(number < count and offset >= offsets.get(partition, 0) for count, offsets in at_kills)
        assert times <= 1 + uncommitted, f"{number} doubled although it was committed"

    # The whole topic read again makes the same index.
    flip_a_bit(snapshot)
    async with indexing(stage) as indexer:
        told = (await ask(stage, "/v1/stats"))["snapshot"]
        assert not told["loaded"]
        assert "damaged" in told["ignored"]
        (line,) = [line for line in indexer.logs if line["event"].startswith("snapshot ignored")]
        assert (line["path"], line["reason"].startswith("it is damaged")) == (str(snapshot), True)
        await stream.check_index()
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"http://127.0.0.1:{stage.index_port}/metrics")).text
        assert "streamer_indexer_snapshot_loaded 0.0" in metrics
        await stop(indexer)
    assert await stream.verdicts() == said


@pytest.mark.real_kafka("topics that can be deleted")
@pytest.mark.usefixtures("snapshot")
async def test_a_topic_made_anew_does_not_get_the_snapshot_of_its_predecessor(stage: Stage) -> None:
    """Not even when it has grown longer: with a topic the broker deletes what was committed for it."""
    async with indexing(stage) as indexer:
        space = (await ask(stage, "/v1/stats"))["space"]
        stream = Stream(stage, space)
        await stream.produce(30)
        await stream.settle()
        await stop(indexer)
    await make_anew(stage)
    stream = Stream(stage, space, random.Random(2))
    await stream.produce(150)
    async with indexing(stage) as indexer:
        told = (await ask(stage, "/v1/stats"))["snapshot"]
        assert "verdicts are committed up to 0 only" in told["ignored"]
        await stream.settle()
        await stream.check_index()
        await stop(indexer)


@pytest.mark.real_kafka("settings of topics")
async def test_the_broker_tells_where_a_topic_lives(bootstrap_servers: str, new_topic: NewTopicName) -> None:
    connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
    usual, quick = await new_topic("usual"), await new_topic("quick", configs={"delete.retention.ms": "60000"})
    homes = [await find_home(connection, topic) for topic in (usual, quick, "there-is-no-such-topic")]
    assert [home.tombstones_kept for home in homes] == [86_400, 60, 86_400]
    assert homes[0].cluster
    assert {home.cluster for home in homes} == {homes[0].cluster}


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


async def make_anew(stage: Stage) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([stage.vectors])
        with anyio.fail_after(60):
            while True:
                response = await admin.create_topics([NewTopic(stage.vectors, 3, 1)])
                ((_, code, *_),) = response.topic_errors
                if for_code(code) is not TopicAlreadyExistsError:
                    assert code == 0
                    return
                await anyio.sleep(0.1)
    finally:
        await admin.close()
