"""Whole workers as processes, hurt in every way, judged by what the topics hold afterwards."""

from __future__ import annotations

import random
import signal
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.faults.scene import IN_FLIGHT, PARTITIONS, Scene, scene
from tests.support.brokers import Broker, NewTopicName
from tests.support.proxy import Proxy
from tests.support.vendors.misbehaviour import HANG, NOTHING, refusal

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

PER_CRASH = PARTITIONS * IN_FLIGHT


async def end(stage: Scene, most_duplicates: int) -> None:
    await stage.all_committed()
    codes = await stage.stop()
    if set(codes) - {0}:
        logs = [member.process.stderr[-3000:] for member in stage.members if member.process]
        pytest.fail("\n".join([f"exit codes {codes}", *logs]))
    verdict = await stage.verdict(most_duplicates)
    assert not verdict.problems, verdict
    print(f"\n{verdict}")


async def published(stage: Scene, more: int) -> None:
    """Until so many more texts have been asked for: the workers are in the middle of it."""
    with anyio.fail_after(60):
        await stage.provider.received(len(stage.provider.requests) + more)


@pytest.mark.parametrize(
    "guarantee", ["at-least-once", pytest.param("exactly-once", marks=pytest.mark.real_kafka("transactions"))]
)
@pytest.mark.kafka
async def test_workers_killed_at_random(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path, guarantee: str
) -> None:
    rng = random.Random(1)
    kills = 4
    # For so long the group waits for one that was killed.
    session = 3000 if broker.is_real else 6000
    async with scene(
        broker, new_topic, tmp_path, delivery__guarantee=guarantee, kafka__session_timeout_ms=session
    ) as stage:
        await stage.start(2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.watch)
            tasks.start_soon(stage.produce, 12_000)
            for _ in range(kills):
                await published(stage, rng.randint(2, 12))
                victim = rng.choice(stage.members)
                await victim.kill()
                victim.start()
            await stage.all_committed()
            tasks.cancel_scope.cancel()
        await end(stage, 0 if stage.is_exactly_once else kills * PER_CRASH)


@pytest.mark.real_kafka("transactions")
async def test_a_worker_that_slept_through_its_session(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    """It wakes up with work in hand that belongs to another by now."""
    async with scene(broker, new_topic, tmp_path, delivery__guarantee="exactly-once") as stage:
        stage.provider.latency = lambda number: 0.3
        await stage.start(2)
        await stage.produce(4000)
        await published(stage, 10)
        sleeper, other = stage.members
        sleeper.signal(signal.SIGSTOP)
        with anyio.fail_after(60):
            while await other.metric("streamer_worker_pipeline_partitions") < PARTITIONS:  # noqa: ASYNC110 - only asking tells
                await anyio.sleep(0.1)
        sleeper.signal(signal.SIGCONT)
        await end(stage, 0)


@pytest.mark.real_kafka("a broker that can be stopped")
async def test_a_broker_restarted_under_load(stoppable_broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    async with scene(stoppable_broker, new_topic, tmp_path) as stage:
        await stage.start(1)
        (member,) = stage.members
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(stage.produce, 4000, rate=300))
            await published(stage, 8)
            await anyio.to_thread.run_sync(stoppable_broker.kill)
            await member.says("publishing waits")
            await anyio.to_thread.run_sync(stoppable_broker.start)
            before = len(stage.provider.requests)
            with anyio.fail_after(30):
                await stage.provider.received(before + 2)
        await end(stage, 0)
        assert exit_codes(stage) == [0], "the same process all along"


def exit_codes(stage: Scene) -> list[int]:
    return [member.process.process.returncode for member in stage.members if member.process]


@pytest.mark.real_kafka("a second listener")
async def test_a_network_that_breaks(
    broker: Broker, kafka_proxy: Proxy, new_topic: NewTopicName, tmp_path: Path
) -> None:
    """Resets, silence, delay and a trickle between the workers and the broker."""
    async with scene(broker, new_topic, tmp_path, kafka_proxy) as stage:
        await stage.start(2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.produce, 10_000)
            await published(stage, 6)
            kafka_proxy.cut()
            await published(stage, 6)
            kafka_proxy.down.drop()
            await anyio.sleep(3)
            kafka_proxy.heal()
            await published(stage, 4)
            kafka_proxy.up.delay = kafka_proxy.down.delay = 0.5
            await published(stage, 4)
            kafka_proxy.heal()
            kafka_proxy.refuse()
            kafka_proxy.cut()
            await anyio.sleep(2)
            await kafka_proxy.accept()
        await end(stage, 2 * PER_CRASH)


@pytest.mark.kafka
async def test_a_provider_that_goes_away_and_a_cache_that_is_wrecked(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path
) -> None:
    async with scene(broker, new_topic, tmp_path) as stage:
        await stage.start(1)
        (member,) = stage.members
        await stage.produce(1500)
        await published(stage, 2)
        for fault in (refusal(503), HANG):
            stage.provider.always = fault
            await stage.produce(len(stage.ledger.attempted) + 500)  # what came before may all have been asked for
            await member.says("provider")
            stage.provider.always = NOTHING
            await member.says(None, timeout=90)
        member.cache.write_bytes(b"this is not a database, and never was" * 1000)
        await stage.produce(len(stage.ledger.attempted) + 500)
        await stage.all_committed()
        for path in member.cache.parent.glob(f"{member.cache.name}*"):
            path.unlink()
        await stage.produce(len(stage.ledger.attempted) + 500)
        await end(stage, 0)


@pytest.mark.kafka
async def test_members_come_and_go_without_rest(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    rounds = 2
    async with scene(broker, new_topic, tmp_path) as stage:
        await stage.start(1)
        first = stage.members[0]
        visitor = stage.add_member()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(stage.produce, 4000, rate=800))
            for _ in range(rounds):
                visitor.start()
                assert visitor.process is not None
                await visitor.process.ready(visitor.port)
                first.measure()
                assert await visitor.stop() == 0
        first.measure()
        assert first.most_rss < 400_000_000
        assert first.most_files < 100
        await end(stage, 0)


@pytest.mark.kafka
async def test_a_second_signal_ends_it_at_once(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    """With a provider that hangs there is nothing to wait for; what was in flight is read again."""
    async with scene(broker, new_topic, tmp_path) as stage:
        stage.provider.always = HANG
        await stage.start(1)
        (member,) = stage.members
        assert member.process is not None
        await stage.produce(500)
        await published(stage, 2)
        member.signal(signal.SIGTERM)
        await member.says("stopping")
        member.signal(signal.SIGTERM)
        await member.process.wait(timeout=20)
        stage.provider.always = NOTHING
        member.start()
        await end(stage, PER_CRASH)


@pytest.mark.real_kafka("a broker that can be stopped")
async def test_a_stop_without_a_broker_is_bounded(
    stoppable_broker: Broker, new_topic: NewTopicName, tmp_path: Path
) -> None:
    async with scene(stoppable_broker, new_topic, tmp_path, delivery__drain_timeout_ms=1000) as stage:
        await stage.start(1)
        (member,) = stage.members
        assert member.process is not None
        await stage.produce(3000)
        await published(stage, 3)
        await anyio.to_thread.run_sync(stoppable_broker.kill)
        member.signal(signal.SIGTERM)
        await member.process.wait(timeout=60)
        await anyio.to_thread.run_sync(stoppable_broker.start)
        member.start()
        await end(stage, PER_CRASH)


@pytest.mark.kafka
async def test_exactly_once_is_refused_where_the_broker_cannot(tmp_path: Path) -> None:
    from streamer.adapters.broker import EmbeddedBroker
    from tests.support.processes import streamer

    async with EmbeddedBroker() as embedded:
        settings = {
            "kafka.bootstrap_servers": embedded.bootstrap_servers,
            "kafka.idempotent": False,
            "delivery.guarantee": "exactly-once",
            "cache.path": tmp_path / "cache.sqlite",
            "http.worker_port": 0,
        }
        with streamer("topics", settings, "--create") as made:
            assert await made.wait() == 0, made.stderr
        with streamer("run", settings) as worker:
            assert await worker.wait(timeout=60) == 2, worker.stderr
            assert "exactly-once" in worker.stderr
