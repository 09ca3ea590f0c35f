"""Two workers with one spend limit, killed on the way: what the service has billed is the judge."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.faults.scene import Scene, scene
from tests.support.brokers import Broker, NewTopicName

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300), pytest.mark.slow]

LIMIT = 4_000
EVENTS = 3_000  # of about four tokens: each half of them is more than the limit
REACHED = "provider spend limit reached since 20"


def tells(line: dict[str, Any]) -> bool:
    return line.get("event") == "provider unavailable" and "spend limit reached" in line["reason"]


async def counted(stage: Scene) -> int:
    return int(max([await member.metric("streamer_worker_spend_day_tokens") for member in stage.members]))


@pytest.mark.kafka
async def test_a_limit_is_kept_by_two_workers_over_a_kill_told_by_both_and_left_when_it_is_raised(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path
) -> None:
    async with scene(broker, new_topic, tmp_path, provider__max_tokens_per_day=LIMIT) as stage:
        await stage.start(2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(stage.produce, EVENTS, rate=1500))
            while stage.provider.billed_tokens < LIMIT / 4:
                await stage.provider.received(len(stage.provider.requests) + 1)
            victim = random.Random(1).choice(stage.members)
            in_flight = stage.provider.in_flight
            await victim.kill()
            victim.start()
        for member in stage.members:
            await member.says(REACHED)
        billed, told = stage.provider.billed_tokens, await counted(stage)
        print(f"\nlimit {LIMIT}, billed {billed}, counted {told}, {in_flight} calls in flight at the kill")
        assert billed <= told <= LIMIT
        assert told > 0.9 * LIMIT, "what is left is less than a request"
        for member in stage.members:
            assert member.process is not None
            await member.process.logged(1, tells)
            [line] = filter(tells, member.process.logs)
            assert line["until"].endswith("T00:00:00Z")
            assert line["since"] < line["until"]
        requests = len(stage.provider.requests)
        with anyio.move_on_after(5):
            await stage.provider.received(requests + 1)
        assert len(stage.provider.requests) == requests, "nobody asks while the limit is reached"
        await stage.stop()
        for member in stage.members:
            member.settings["provider.max_tokens_per_day"] = 100 * LIMIT
        await stage.start()
        await stage.all_committed()
        assert stage.provider.billed_tokens <= await counted(stage)
        await stage.stop()
        verdict = await stage.verdict(most_duplicates=EVENTS)
    assert not verdict.problems, verdict
