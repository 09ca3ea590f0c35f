"""Two indexers on one Milvus: they divide the partitions, survive the death of one, and wait while Milvus is away."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest

from tests.support.processes import streamer
from tests.support.stages import Stage, free_port
from tests.support.topics import read_until

pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")

from tests.support.milvus_server import milvus_server

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

WORDS = [
    "apple",
    "bridge",
    "candle",
    "doctor",
    "engine",
    "forest",
    "guitar",
    "harbor",
    "island",
    "jacket",
    "kitchen",
    "lantern",
    "mountain",
    "needle",
    "orange",
    "pepper",
    "quarter",
    "river",
    "saddle",
    "tunnel",
    "umbrella",
    "valley",
    "winter",
    "yellow",
    "zebra",
    "anchor",
    "basket",
    "copper",
    "desert",
    "eagle",
    "feather",
    "garden",
    "hammer",
    "insect",
    "jungle",
    "kettle",
    "ladder",
    "magnet",
    "noodle",
    "oyster",
    "pencil",
    "rabbit",
    "silver",
    "temple",
    "uncle",
    "violin",
    "wagon",
    "yogurt",
    "acid",
    "balloon",
    "cotton",
    "dragon",
    "elbow",
    "finger",
    "ghost",
    "helmet",
    "iron",
    "jewel",
    "kidney",
    "lemon",
    "mirror",
    "nurse",
    "onion",
    "planet",
]
TEXTS = [" ".join(random.Random(number).sample(WORDS, 12)) for number in range(30)]  # alike to none of the others


def told(records: list[Any]) -> dict[str, dict[str, Any]]:
    return {record.key.decode(): orjson.loads(record.value) for record in records}


async def wait_for(url: str, status: int) -> str:
    async with httpx.AsyncClient() as client:
        with anyio.fail_after(60):
            while True:
                answer = await client.get(url)
                if answer.status_code == status:
                    return answer.text
                await anyio.sleep(0.05)


@pytest.mark.real_kafka("a consumer group of two")
async def test_the_work_is_shared_and_nothing_is_lost(stage: Stage, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]

    async def verdicts(count: int) -> dict[str, dict[str, Any]]:
        return told(await read_until(stage.bootstrap_servers, stage.verdicts, lambda r: len(told(r)) >= count))

    async def produce(prefix: str, count: int) -> None:
        await stage.produce([(f"{prefix}-{i}".encode(), text.encode()) for i, text in enumerate(TEXTS[:count])])

    with milvus_server(tmp_path) as milvus:
        settings = [
            {
                **stage.settings,
                "kafka.session_timeout_ms": 6_000,
                "index.backend": "milvus",
                "index.milvus_uri": milvus.uri,
                "index.milvus_timeout_ms": 3_000,
                "index.snapshot_path": tmp_path / f"{port}.snapshot",
                "http.port": port,
            }
            for port in ports
        ]
        with (
            streamer("run", stage.settings) as worker,
            streamer("index", settings[0]) as doomed,
        ):
            await doomed.ready(ports[0])  # it has created the collection
            with streamer("index", settings[1]) as survivor:
                await worker.ready(stage.port)
                await survivor.ready(ports[1])
                await doomed.logged(2, lambda line: line["event"] == "partitions divided anew")
                await produce("first", 30)
                said = await verdicts(30)
                assert {verdict["verdict"] for verdict in said.values()} == {"warming_up"}
                async with httpx.AsyncClient() as client:
                    stats = [(await client.get(f"http://127.0.0.1:{port}/v1/stats")).json() for port in ports]
                assert [each["records_total"] > 0 for each in stats] == [True, True]
                assert sum(each["records_total"] for each in stats) == 30

                doomed.send_signal(signal.SIGKILL)
                await produce("copy", 20)
                said = await verdicts(50)
                for i in range(20):
                    verdict = said[f"copy-{i}"]
                    assert verdict["verdict"] == "near_duplicate"
                    assert verdict["duplicate_of"] == f"first-{i}"

                milvus.kill()
                await produce("late", 5)
                waiting = await wait_for(f"http://127.0.0.1:{ports[1]}/readyz", 503)
                assert f"Milvus at {milvus.uri}" in waiting
                assert "the index does not answer" in await wait_for(
                    f"http://127.0.0.1:{ports[1]}/v1/vectors/first-29-of-nobody", 503
                )
                milvus.start()
                said = await verdicts(55)
                assert [said[f"late-{i}"]["verdict"] for i in range(5)] == ["near_duplicate"] * 5
                await survivor.ready(ports[1])
                survivor.send_signal(signal.SIGTERM)
                assert await survivor.wait() == 0, survivor.stderr
