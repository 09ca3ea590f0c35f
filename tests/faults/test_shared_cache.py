"""Workers that share a cache, a file or a server: what they pay for twice, and what happens when the server goes."""

# ruff: noqa: ASYNC240 - a test may block its own loop

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.faults.checker import Verdict
from tests.faults.scene import PER_CRASH, Member, Scene, scene
from tests.support.brokers import Broker, NewTopicName
from tests.support.redis_server import RedisServer, redis_server
from tests.support.vendors.server import Request

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

KILLS = 8
EVENTS = 16_000
STORED_AFTER = 5  # requests over the same connection: a store that takes a second comes to 6 or 7


def thrice(number: int) -> str:
    """Every text comes three times at once, under different ids: both workers have it in hand at the same moment."""
    return f"text number {number // 3}"


def payments(requests: Sequence[Request]) -> tuple[int, int, int]:
    """How many texts were asked for, how many of them more than once, and how long ago such a one was asked for when
    its worker was killed: in requests that followed over the same connection, and so after the answer.
    """
    sent: Counter[int] = Counter()
    asked: dict[str, list[tuple[int, int]]] = defaultdict(list)  # over which connection, and its how manieth request
    for request in requests:
        sent[request.connection] += 1
        for text in request.json["input"]:
            asked[text].append((request.connection, sent[request.connection]))
    lost = [place for places in asked.values() for place in places[:-1]]
    later = [sent[connection] - number for connection, number in lost]
    return len(asked), sum(len(places) > 1 for places in asked.values()), max(later, default=0)


@dataclass(slots=True)
class Payments:
    """Of `texts`, `again` were paid for more than once, the `oldest` of them so many requests before the kill."""

    texts: int
    again: int
    oldest: int
    codes: list[int]
    logs: str
    verdict: Verdict


async def under_kills(stage: Scene, *, workers: int, events: int, kills: int) -> Payments:
    """Every text three times at once, while one worker after the other is killed and started again."""
    rng = random.Random(3)
    await stage.start(workers)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(stage.produce, events, rate=600, text_of=thrice))
        for _ in range(kills):
            with anyio.fail_after(60):
                await stage.provider.received(len(stage.provider.requests) + rng.randint(8, 30))
            victim = rng.choice(stage.members)
            await victim.kill()
            victim.start()
        await stage.all_committed()
        tasks.cancel_scope.cancel()
    codes = await stage.stop()
    verdict = await stage.verdict(0 if stage.is_exactly_once else kills * PER_CRASH)
    logs = "".join(member.process.stderr for member in stage.members if member.process)
    found = Payments(*payments(stage.provider.requests), codes, logs, verdict)
    print(f"\n{workers} workers, {found.texts} texts, {found.again} paid for more than once, {kills} kills, "
          f"{found.oldest} requests; {verdict}")  # fmt: skip
    return found


@pytest.mark.parametrize(
    "guarantee", ["at-least-once", pytest.param("exactly-once", marks=pytest.mark.real_kafka("transactions"))]
)
@pytest.mark.kafka
async def test_only_what_was_in_flight_at_a_kill_is_paid_for_twice(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path, guarantee: str
) -> None:
    """First hour D3. Field case F13."""
    path = tmp_path / "cache.sqlite"
    async with scene(
        broker,
        new_topic,
        tmp_path,
        delivery__guarantee=guarantee,
        kafka__session_timeout_ms=3000 if broker.is_real else 6000,
    ) as stage:
        found = await under_kills(stage, workers=2, events=EVENTS, kills=KILLS)
    assert found.codes == [0, 0], found.logs[-4000:]
    assert not found.verdict.problems, found.verdict
    assert found.oldest <= STORED_AFTER
    assert found.again <= KILLS * PER_CRASH // 3
    assert {file.name for file in tmp_path.glob("cache.sqlite*")} == {path.name, f"{path.name}.lock"}
    assert "cache " not in found.logs, found.logs[-4000:]


def on_server(server: RedisServer) -> dict[str, Any]:
    """For a scene whose workers are on machines of their own: all they share is a server."""
    return {"cache__url": server.url, "cache__path": "", "kafka__session_timeout_ms": 6000}


@pytest.mark.kafka
async def test_on_one_server_only_what_was_in_flight_at_a_kill_is_paid_for_twice(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path
) -> None:
    kills = 3
    with redis_server(tmp_path / "redis") as server:
        async with scene(broker, new_topic, tmp_path, **on_server(server)) as stage:
            found = await under_kills(stage, workers=2, events=EVENTS // 2, kills=kills)
    assert found.codes == [0, 0], found.logs[-4000:]
    assert not found.verdict.problems, found.verdict
    assert found.oldest <= STORED_AFTER
    assert found.again <= kills * PER_CRASH // 3
    assert list(tmp_path.glob("cache.sqlite*")) == []
    assert "cache " not in found.logs, found.logs[-4000:]


@pytest.mark.kafka
async def test_a_server_that_is_killed_in_mid_stream_is_done_without_and_used_again(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path
) -> None:
    with redis_server(tmp_path / "redis") as server:
        async with scene(broker, new_topic, tmp_path, **on_server(server)) as stage:
            await stage.start(2)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(stage.produce, rate=1000))
                await stage.reader.has_seen(1000)
                server.kill()
                for member in stage.members:
                    await lacks(member, server.url)
                await stage.reader.has_seen(stage.reader.count + 1000)  # without it
                server.start()
                for member in stage.members:
                    await lacks(member, None)
                await stage.reader.has_seen(stage.reader.count + 1000)
                tasks.cancel_scope.cancel()
            await stage.all_committed()
            assert server.client.dbsize() > 100
            assert await stage.stop() == [0, 0]
            verdict = await stage.verdict(0)
            lines = [line["event"] for member in stage.members if member.process for line in member.process.logs]
    assert not verdict.problems, verdict
    assert lines.count("shared cache unavailable") == lines.count("shared cache available again") == 2


async def lacks(member: Member, words: str | None) -> None:
    """Wait until the worker, which stays ready, says that it does without this, or without nothing."""
    with anyio.fail_after(30):
        while True:
            said = await member.lacks()
            if said == words or (said and words and words in said):
                return
            await anyio.sleep(0.05)
