"""`streamer run --workers`: real worker processes on a real broker under one supervisor."""

from __future__ import annotations

import signal

import anyio
import httpx
import psutil
import pytest

from tests.support.processes import streamer
from tests.support.stages import Stage
from tests.support.topics import Pair, read_until
from tests.support.vendors.openai import FakeOpenAI

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


async def test_two_workers_share_the_partitions_and_one_that_is_killed_is_replaced(stage: Stage) -> None:
    sent = {f"id-{number}": f"text number {number}" for number in range(2_000)}
    pairs: list[Pair] = [(id.encode(), text.encode()) for id, text in sent.items()]
    async with FakeOpenAI(key="sk-test") as service, httpx.AsyncClient() as client:
        stage.with_fake_openai(service)
        with streamer("run", stage.settings | {"kafka.session_timeout_ms": 6_000}, "--workers", "2") as process:

            async def metric(name: str) -> float:
                page = (await client.get(f"http://127.0.0.1:{stage.port}/metrics")).text
                lines = [line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#")]
                return sum(float(value) for key, value in lines if key.partition("{")[0] == name)

            await process.ready(stage.port)
            await stage.produce(pairs[:1_000])
            with anyio.fail_after(60):
                while await metric("streamer_worker_pipeline_embedded_total") < 1_000:  # noqa: ASYNC110 - only asking tells
                    await anyio.sleep(0.05)
            children = psutil.Process(process.process.pid).children()
            assert len(children) == 2
            children[0].kill()
            await process.logged(1, lambda line: line["event"] == "worker ended; starting it again")
            await stage.produce(pairs[1_000:])
            await read_until(
                stage.bootstrap_servers, stage.vectors, lambda records: len({r.key for r in records}) == 2_000
            )
            await process.ready(stage.port)
            with anyio.fail_after(30):
                while await metric("streamer_worker_pipeline_embedded_total") < 1_990:  # noqa: ASYNC110 - only asking tells
                    await anyio.sleep(0.05)
            started = [line for line in process.logs if line["event"] == "worker started"]
            assert {line["worker"] for line in started} == {1, 2}
            children = psutil.Process(process.process.pid).children()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            assert not any(child.is_running() for child in children)
            assert [line["event"] for line in process.logs].count("worker stopped") == 2
    assert await stage.committed() == stage.ends


async def test_what_is_wrong_is_told_once_with_the_exit_code_of_one_worker(stage: Stage) -> None:
    with streamer("run", stage.settings | {"topics.input": "there-is-no-such-topic"}, "--workers", "3") as process:
        assert await process.wait() == 3
        told = [line for line in process.stderr.splitlines() if line.startswith("streamer: ")]
        assert len(told) == 1
        assert "there-is-no-such-topic" in told[0]
