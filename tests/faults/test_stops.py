"""Field cases F11 and F12: a start that can be stopped at any moment, and what it says while it waits for the dead."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from tests.faults.stops import START_STOPS_WITHIN, STOPS_WITHIN, stopped, twenty
from tests.support.brokers import Broker, NewTopicName
from tests.support.lateness import timed
from tests.support.processes import StreamerProcess, streamer
from tests.support.stages import Stage, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
def silence() -> Iterator[str]:
    """The address of something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
async def stage(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> Stage:
    return await make_stage(broker, new_topic, tmp_path)


async def make_stage(broker: Broker, new_topic: NewTopicName, folder: Path) -> Stage:
    texts, vectors, verdicts, dead = [await new_topic(name) for name in ("texts", "vectors", "verdicts", "dead")]
    return Stage(broker, texts, vectors, verdicts, dead, folder)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "index"])
@pytest.mark.parametrize("moment", [0.0, 0.4, 1.0, 2.0, 4.0])
async def test_f11_a_start_without_a_broker_is_stopped(
    command: str, moment: float, silence: str, tmp_path: Path
) -> None:
    settings = {
        "kafka.bootstrap_servers": silence,
        "kafka.connect_timeout_ms": 60_000,
        "cache.path": tmp_path / "cache.sqlite",
        "http.port": free_port(),
        "http.worker_port": free_port(),
    }
    assert await stopped(command, settings, moment) < START_STOPS_WITHIN


@pytest.mark.real_kafka("a group that waits for its dead")
async def test_f11_f12_a_worker_that_joins_says_what_it_waits_for_and_is_stopped(
    stage: Stage,
) -> None:
    settings = stage.settings | {"kafka.session_timeout_ms": 20_000}
    with streamer("run", settings) as first:
        await first.ready(stage.port)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    with streamer("run", settings) as second:
        said = await until_it_says(second, stage.port, "killed")
        assert "waiting to join the consumer group: for " in said
        assert f"the group 'group-{stage.texts}' is in state PreparingRebalance with 1 other members" in said
        assert "20 s after its last heartbeat (kafka.session_timeout_ms)" in said
        async with timed() as took:
            second.send_signal(signal.SIGTERM)
            assert await second.wait() == 0, second.stderr
        assert took.seconds < START_STOPS_WITHIN
    # It has left nobody behind: the third waits for the first one only.
    with streamer("run", settings) as third:
        assert "with 1 other members" in await until_it_says(third, stage.port, "killed")
        await third.ready(stage.port, 60)
        assert "waiting for the consumer group" in third.stderr
        assert "1 other members" in third.stderr


@pytest.mark.real_kafka("a group that waits for its dead")
async def test_f12_a_worker_outwaits_a_successor_that_was_killed_while_it_joined(stage: Stage) -> None:
    settings = stage.settings | {"kafka.session_timeout_ms": 20_000, "kafka.connect_timeout_ms": 3_000}
    for words in (None, "killed"):
        with streamer("run", settings) as victim:
            await until_it_says(victim, stage.port, words)
            victim.send_signal(signal.SIGKILL)
            await victim.wait()
    with streamer("run", settings) as worker:
        await worker.ready(stage.port, 120)
        assert worker.process.poll() is None


async def until_it_says(process: StreamerProcess, port: int, words: str | None) -> str:
    """What `/readyz` says once it has these words in it; None: once it is ready."""
    async with httpx.AsyncClient() as client:
        with anyio.fail_after(60):
            while True:
                assert process.process.poll() is None, process.stderr
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/readyz")
                    if (answer.status_code == 200) if words is None else (words in answer.text):
                        return str(answer.json().get("error"))
                except httpx.TransportError:
                    pass
                await anyio.sleep(0.05)


@pytest.mark.real_kafka("a broker that can be stopped")
@pytest.mark.parametrize("command", ["run", "index"])
async def test_f11_at_work_with_the_broker_gone(
    stoppable_broker: Broker,
    new_topic: NewTopicName,
    tmp_path: Path,
    command: str,
) -> None:
    mine = await make_stage(stoppable_broker, new_topic, tmp_path)
    port = mine.port if command == "run" else mine.index_port
    with streamer(command, mine.settings) as process:
        await process.ready(port)
        await anyio.to_thread.run_sync(stoppable_broker.kill)
        try:
            await anyio.sleep(3)
            async with timed() as took:
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0, process.stderr
            assert took.seconds < STOPS_WITHIN, process.stderr
        finally:
            await anyio.to_thread.run_sync(stoppable_broker.start)


@pytest.mark.kafka
async def test_f11_signals_at_random_moments(stage: Stage, silence: str, tmp_path: Path) -> None:
    """Five in the suite; STREAMER_TEST_STOPS=20 for more."""
    rounds, seed = int(os.environ.get("STREAMER_TEST_STOPS", "5")), int(os.environ.get("STREAMER_TEST_SEED", "0"))
    for what, took, allowed in await twenty(stage, silence, tmp_path, rounds, seed):
        assert took < allowed, what
