"""Too little of what the system gives: file handles, room on the disk."""

from __future__ import annotations

import resource
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.faults.scenarios import full, small_disk
from tests.faults.scene import PER_CRASH, Scene, scene
from tests.support.brokers import Broker, NewTopicName
from tests.support.proxy import Proxy

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are set as on Linux"),
]


async def end(stage: Scene, most_duplicates: int) -> None:
    await stage.all_committed()
    assert set(await stage.stop()) <= {0}
    verdict = await stage.verdict(most_duplicates)
    assert not verdict.problems, verdict


@pytest.mark.kafka
async def test_a_start_with_too_few_file_handles_says_so(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path
) -> None:
    async with scene(broker, new_topic, tmp_path) as stage:
        member = stage.add_member()
        member.start()
        member.limit(resource.RLIMIT_NOFILE, 24)  # long before it has imported anything
        assert member.process is not None
        assert await member.process.wait() == 2
        assert "24 file handles are too few" in member.process.stderr


@pytest.mark.real_kafka("a second listener")
async def test_handles_that_run_out_are_waited_for(
    broker: Broker, kafka_proxy: Proxy, new_topic: NewTopicName, tmp_path: Path
) -> None:
    """Connections break, and there is no handle for new ones: nobody can even ask how it is."""
    async with scene(broker, new_topic, tmp_path, kafka_proxy) as stage:
        await stage.start(1)
        (member,) = stage.members
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(stage.produce, rate=300))
            await stage.reader.has_seen(300)
            most, _ = member.limit(resource.RLIMIT_NOFILE, 3)
            kafka_proxy.cut()
            await anyio.sleep(1)
            assert member.is_running
            member.limit(resource.RLIMIT_NOFILE, most)
            await stage.reader.has_seen(stage.reader.count + 600)
            tasks.cancel_scope.cancel()
        await end(stage, PER_CRASH)


@pytest.mark.kafka
async def test_a_full_disk_under_a_running_worker(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    """The cache is done without, `/readyz` says so, and is used again when there is room."""
    with small_disk(tmp_path, 8) as disk:
        async with scene(broker, new_topic, tmp_path) as stage:
            member = stage.add_member(cache__path=disk / "cache.sqlite")
            await stage.start()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(stage.produce, rate=1000))
                await stage.reader.has_seen(1000)
                with full(disk, member):
                    with anyio.fail_after(60):
                        while "cache: " not in (await member.lacks() or ""):  # noqa: ASYNC110 - only asking tells
                            await anyio.sleep(0.1)
                    await stage.reader.has_seen(stage.reader.count + 1000)
                tasks.cancel_scope.cancel()
            await end(stage, 0)
