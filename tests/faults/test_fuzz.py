"""Random records of other people, legal and hostile, through a worker and an indexer on real Kafka.

STREAMER_FUZZ_RECORDS (2,000) and STREAMER_FUZZ_SEED (1) say how many and which.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from streamer.adapters.kafka import lenient_records  # noqa: F401  # this process, too, reads any names
from tests.faults.checker import Ledger, check
from tests.faults.scene import read_everything
from tests.support.brokers import Broker, NewTopicName
from tests.support.hostile import WIDE, Drawn, draw, stranger
from tests.support.processes import StreamerProcess, streamer
from tests.support.raw_headers import CODECS, produce_raw
from tests.support.stages import DIMENSIONS, Stage
from tests.support.topics import committed, end_offsets
from tests.support.vendors.openai import FakeOpenAI

COUNT = int(os.environ.get("STREAMER_FUZZ_RECORDS", "2000"))
SEED = int(os.environ.get("STREAMER_FUZZ_SEED", "1"))
PARTITIONS = 3
TIMES: list[dict[str, str]] = [
    {},
    {"message.timestamp.type": "LogAppendTime"},
    {"message.timestamp.before.max.ms": "3600000"},
]
POLICIES: list[dict[str, str]] = [{}, {"cleanup.policy": "compact"}, {"compression.type": "zstd"}]
PATIENCE = 120 + COUNT / 50  # seconds

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120 + 3 * PATIENCE)]


class Run:
    """Topics, processes and records of one run."""

    def __init__(self, stage: Stage, guarantee: str) -> None:
        self.stage = stage
        self.servers = stage.bootstrap_servers
        self.level = "read_committed" if guarantee == "exactly-once" else "read_uncommitted"
        stage.settings["delivery.guarantee"] = guarantee
        self.rng = random.Random(SEED)
        self.ledger = Ledger()
        self.shares: list[list[Drawn]] = [[] for _ in range(PARTITIONS)]
        for n in range(COUNT):
            drawn = draw(self.rng, b"good-%d" % n, n)
            self.rng.choice(self.shares).append(drawn)
            if drawn.text is not None:
                self.ledger.attempted[f"good-{n}"] = drawn.text
                self.ledger.acknowledged.add(f"good-{n}")

    async def produce(self) -> None:
        """To one partition as they come, to one in every codec, to one in transactions of which half are aborted."""
        strangers = [stranger(self.rng, n) for n in range(COUNT // 10)]
        # A compacted topic takes none without a key.
        await produce_raw(
            self.servers, self.stage.vectors, [(key or b"z", value, names) for key, value, names in strangers]
        )
        ways: list[dict[str, Any]] = [{}, {"codecs": list(CODECS)}, {"transactional_id": f"x-{self.stage.texts}"}]
        for partition, (share, way) in enumerate(zip(self.shares, ways, strict=True)):
            raws, timestamps = [drawn.raw for drawn in share], [drawn.timestamp for drawn in share]
            await produce_raw(self.servers, self.stage.texts, raws, partition=partition, timestamps=timestamps, **way)

    async def done(self, processes: list[StreamerProcess]) -> list[Any]:
        """All is committed, and judged; the verdicts."""
        inputs = await read_everything(self.servers, self.stage.texts, self.level)
        ends = {p: max(r.offset for r in inputs if r.partition == p) + 1 for p in range(PARTITIONS)}
        await self._reached(processes, f"group-{self.stage.texts}", self.stage.texts, ends)
        judged = {tp.partition: end for tp, end in (await end_offsets(self.servers, self.stage.vectors)).items() if end}
        await self._reached(processes, f"group-{self.stage.texts}-verdicts", self.stage.vectors, judged)
        return await read_everything(self.servers, self.stage.verdicts, "read_committed")

    async def _reached(self, processes: list[StreamerProcess], group: str, topic: str, ends: dict[int, int]) -> None:
        with anyio.fail_after(PATIENCE):
            done: dict[int, int] = {}
            while any(done.get(partition, 0) < end for partition, end in ends.items()):
                for process in processes:
                    assert process.process.poll() is None, process.stderr[-4000:]
                await anyio.sleep(0.5)
                done = await committed(self.servers, group, topic)

    async def judge(self, service: FakeOpenAI, verdicts: list[Any]) -> None:
        inputs, published, letters = [
            await read_everything(self.servers, topic, self.level)
            for topic in (self.stage.texts, self.stage.vectors, self.stage.dead_letters)
        ]
        ours = [r for r in published if dict(r.headers).get("streamer-source", b"").startswith(b"texts-")]
        judged = await anyio.to_thread.run_sync(
            lambda: check(
                self.ledger,
                inputs,
                ours,
                letters,
                right_vectors=lambda model, texts: service.expected(texts, model, DIMENSIONS),
                most_duplicates=0,
            )
        )
        assert not judged.problems, judged.problems
        assert judged.produced == len(inputs) >= COUNT
        vectors = Counter(r.key for r in ours if r.value is not None)
        assert Counter(r.key for r in verdicts if r.key in vectors) == vectors


async def _searched(port: int) -> None:
    async with httpx.AsyncClient() as client:
        for body in ({"text": "parcel late"}, {"text": "x \ud83d"}, {"id": "good-1"}, {"id": "a\nb"}):
            content = json.dumps(body).encode()  # which writes halves of surrogate pairs, too
            answer = await client.post(
                f"http://127.0.0.1:{port}/v1/search", content=content, headers={"content-type": "application/json"}
            )
            assert answer.status_code < 500, answer.text


@pytest.mark.real_kafka("refusals of single records")
@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
async def test_random_records_of_other_people(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path, guarantee: str
) -> None:
    """Nobody exits or is stuck; every record has the outcome that it has to have, once and in order, and every vector
    its verdict."""
    world = random.Random(f"{SEED} {guarantee}")
    texts = await new_topic("texts", partitions=PARTITIONS, configs=WIDE | world.choice(TIMES[:2]))
    vectors = await new_topic("vectors", partitions=PARTITIONS, configs=world.choice(POLICIES) | world.choice(TIMES))
    configs = {"max.message.bytes": "50000"} | world.choice(POLICIES) | world.choice(TIMES)
    dead = await new_topic("dead", configs=configs)
    verdicts = await new_topic("verdicts", configs=world.choice(POLICIES) | world.choice(TIMES))
    stage = Stage(broker, texts, vectors, verdicts, dead, tmp_path)
    stage.settings["kafka.compression"] = world.choice(list(CODECS))
    run = Run(stage, guarantee)
    async with FakeOpenAI(key="sk-test") as service:
        stage.with_fake_openai(service)
        with streamer("run", stage.settings) as worker, streamer("index", stage.settings) as indexer:
            await worker.ready(stage.port)
            await indexer.ready(stage.index_port)
            await run.produce()
            try:
                judged = await run.done([worker, indexer])
            finally:
                await anyio.Path(tmp_path / "worker.log").write_text(worker.stderr)
                await anyio.Path(tmp_path / "indexer.log").write_text(indexer.stderr)
            await _searched(stage.index_port)
            for process in (worker, indexer):
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0, process.stderr[-4000:]
        await run.judge(service, judged)
