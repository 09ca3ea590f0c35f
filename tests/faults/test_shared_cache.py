"""Workers that share a cache, a file or a server: what they pay for twice, and what happens when the server goes."""

# ruff: noqa: ASYNC240 - a test may block its own loop

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamer.app.loop_lag import LoopLag
from tests.faults.checker import Verdict
from tests.faults.scene import PER_CRASH, Member, Scene, scene
from tests.support.brokers import Broker, NewTopicName
from tests.support.lateness import excused
from tests.support.redis_server import RedisServer, redis_server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

KILLS = 8
EVENTS = 16_000
STORED_AFTER = 0.5  # seconds from a request to its vectors in the cache; the answer takes 0.06


def thrice(number: int) -> str:
    """Every text comes three times at once, under different ids: both workers have it in hand at the same moment."""
    return f"text number {number // 3}"


def payments(stage: Scene) -> dict[str, list[float]]:
    """When each text was asked for, in order."""
    asked: dict[str, list[float]] = defaultdict(list)
    for request in stage.provider.requests:
        for text in request.json["input"]:
            asked[text].append(request.arrived)
    return asked


def oldest_lost(asked: dict[str, list[float]], kills: Sequence[float]) -> float:
    """How long before the next kill a payment was made that was made again: what was older was not in flight."""
    lost = [paid for times in asked.values() for paid in times[:-1]]
    return max((min((kill - paid for kill in kills if kill >= paid), default=inf) for paid in lost), default=0.0)


@dataclass(slots=True)
class Payments:
    """`again`: texts that were paid for more than once. `oldest`: see oldest_lost, less what this machine was late."""

    texts: int
    again: int
    oldest: float
    codes: list[int]
    logs: str
    verdict: Verdict


async def under_kills(stage: Scene, *, workers: int, events: int, kills: int) -> Payments:
    """Every text three times at once, while one worker after the other is killed and started again."""
    rng = random.Random(3)
    killed: list[float] = []
    lag = LoopLag()
    await stage.start(workers)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.watch)
        tasks.start_soon(partial(stage.produce, events, rate=600, text_of=thrice))
        for _ in range(kills):
            with anyio.fail_after(60):
                await stage.provider.received(len(stage.provider.requests) + rng.randint(8, 30))
            victim = rng.choice(stage.members)
            await victim.kill()
            killed.append(time.monotonic())
            victim.start()
        await stage.all_committed()
        tasks.cancel_scope.cancel()
    codes = await stage.stop()
    verdict = await stage.verdict(0 if stage.is_exactly_once else kills * PER_CRASH)
    logs = "".join(member.process.stderr for member in stage.members if member.process)
    asked = payments(stage)
    again = sum(len(times) > 1 for times in asked.values())
    found = Payments(len(asked), again, oldest_lost(asked, killed) - excused(lag), codes, logs, verdict)
    print(f"\n{workers} workers, {len(asked)} texts, {again} paid for more than once, {kills} kills, "
          f"{found.oldest:.2f} s; {verdict}")  # fmt: skip
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
