"""Two workers on one machine with one cache file: what they pay for twice."""

# ruff: noqa: ASYNC240 - a test may block its own loop

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from math import inf
from pathlib import Path

import anyio
import pytest

from streamer.app.loop_lag import LoopLag
from tests.faults.scene import PER_CRASH, Scene, scene
from tests.support.brokers import Broker, NewTopicName
from tests.support.lateness import excused

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


@pytest.mark.parametrize(
    "guarantee", ["at-least-once", pytest.param("exactly-once", marks=pytest.mark.real_kafka("transactions"))]
)
@pytest.mark.kafka
async def test_only_what_was_in_flight_at_a_kill_is_paid_for_twice(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path, guarantee: str
) -> None:
    rng = random.Random(3)
    kills: list[float] = []
    lag = LoopLag()
    path = tmp_path / "cache.sqlite"
    async with scene(
        broker,
        new_topic,
        tmp_path,
        delivery__guarantee=guarantee,
        kafka__session_timeout_ms=3000 if broker.is_real else 6000,
    ) as stage:
        await stage.start(2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lag.watch)
            tasks.start_soon(partial(stage.produce, EVENTS, rate=600, text_of=thrice))
            for _ in range(KILLS):
                with anyio.fail_after(60):
                    await stage.provider.received(len(stage.provider.requests) + rng.randint(8, 30))
                victim = rng.choice(stage.members)
                await victim.kill()
                kills.append(time.monotonic())
                victim.start()
            await stage.all_committed()
            tasks.cancel_scope.cancel()
        codes = await stage.stop()
        verdict = await stage.verdict(0 if stage.is_exactly_once else KILLS * PER_CRASH)
        logs = "".join(member.process.stderr for member in stage.members if member.process)
    asked = payments(stage)
    oldest = oldest_lost(asked, kills)
    again = sum(len(times) > 1 for times in asked.values())
    print(f"\n{len(asked)} texts, {again} paid for more than once, {KILLS} kills, {oldest:.2f} s; {verdict}")
    assert codes == [0, 0], logs[-4000:]
    assert not verdict.problems, verdict
    assert oldest <= STORED_AFTER + excused(lag)
    assert again <= KILLS * PER_CRASH // 3
    assert {file.name for file in tmp_path.glob("cache.sqlite*")} == {path.name, f"{path.name}.lock"}
    assert "cache " not in logs, logs[-4000:]
