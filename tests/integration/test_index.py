"""The indexer as a real process behind a real worker: verdicts, searches, and what a restart changes (nothing)."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.support.processes import streamer
from tests.support.stages import Stage
from tests.support.topics import produce, read_all, read_until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

FIRST = {
    "a": "My parcel was left in the rain and everything inside is wet.",
    "b": "The courier rang the wrong bell and went away again.",
    "c": "Can I change the delivery address to my office?",
}
SECOND = {
    "a2": FIRST["a"],
    "d": "Three of the glasses were broken when I opened the box.",
    "b2": FIRST["b"],
}


def by_id(records: list[Any]) -> dict[str, Any]:
    return {record.key.decode(): orjson.loads(record.value) for record in records}


@pytest.mark.real_kafka("end offsets to be relied on")
@pytest.mark.parametrize("backend", ["memory", "milvus"])
async def test_verdicts_and_searches_survive_a_restart(stage: Stage, tmp_path: Path, backend: str) -> None:
    if backend == "milvus":
        pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")
    settings = {**stage.settings, "index.backend": backend, "index.milvus_uri": str(tmp_path / "index.db")}
    index_url = f"http://127.0.0.1:{stage.index_port}"
    with streamer("run", stage.settings) as worker:
        with streamer("index", settings) as indexer:
            await worker.ready(stage.port)
            await indexer.ready(stage.index_port)
            await stage.produce([(k.encode(), v.encode()) for k, v in FIRST.items()])
            await read_until(stage.bootstrap_servers, stage.verdicts, lambda r: len(r) == len(FIRST))
            indexer.send_signal(signal.SIGTERM)
            assert await indexer.wait() == 0, indexer.stderr

        # While nobody looks, more arrives; the next indexer judges it against what it restores.
        await stage.produce([(k.encode(), v.encode()) for k, v in SECOND.items()])
        await read_until(stage.bootstrap_servers, stage.vectors, lambda r: len(r) == len(FIRST) + len(SECOND))
        with streamer("index", settings) as indexer:
            await indexer.ready(stage.index_port)
            await stage.produce([(b"c", None)])
            await read_until(stage.bootstrap_servers, stage.vectors, lambda r: any(x.value is None for x in r))
            async with httpx.AsyncClient(base_url=index_url) as client:
                answer = await client.post("/v1/search", json={"text": "broken glasses in the box", "k": 2})
                assert answer.json()["matches"][0]["id"] == "d"
                vector = (await client.get("/v1/vectors/a")).json()["vector"]
                answer = await client.post("/v1/search", json={"vector": vector, "k": 2})
                assert {match["id"] for match in answer.json()["matches"]} == {"a", "a2"}
                while (await client.get("/v1/vectors/c")).status_code != 404:
                    pass  # the tombstone is on its way
                while "streamer_indexer_vectors 5.0" not in (await client.get("/metrics")).text:
                    pass  # Milvus is asked for their number once a second
                assert (await client.get("/v1/stats")).json()["vectors"] == len(FIRST) + len(SECOND) - 1
            indexer.send_signal(signal.SIGTERM)
            assert await indexer.wait() == 0, indexer.stderr
    verdicts = await read_all(stage.bootstrap_servers, stage.verdicts)
    assert Counter(r.key.decode() for r in verdicts) == Counter([*FIRST, *SECOND]), "each event is judged once"
    said = {id: (v["verdict"], v["duplicate_of"]) for id, v in by_id(verdicts).items()}
    assert said == {
        **dict.fromkeys([*FIRST, "d"], ("warming_up", None)),
        "a2": ("near_duplicate", "a"),
        "b2": ("near_duplicate", "b"),
    }


async def test_vectors_of_another_space_are_refused_by_name(stage: Stage) -> None:
    foreign = {"id": "x", "vector": [1.0, 0.0], "space": "somebody-elses", "dimensions": 2, "model": "other"}
    await produce(
        stage.bootstrap_servers,
        stage.vectors,
        [(b"x", orjson.dumps(foreign))],
        headers=[("content-type", b"application/json"), ("streamer-space", b"somebody-elses")],
    )
    with streamer("index", stage.settings) as indexer:
        await indexer.ready(stage.index_port)
        async with httpx.AsyncClient() as client:
            stats = (await client.get(f"http://127.0.0.1:{stage.index_port}/v1/stats")).json()
        assert (stats["vectors"], stats["foreign_total"]) == (0, {"somebody-elses": 1})
        indexer.send_signal(signal.SIGTERM)
        assert await indexer.wait() == 0
        (refusal,) = [line for line in indexer.logs if line["level"] == "error"]
        assert refusal["event"].startswith("vectors of another space refused")
        assert (refusal["space"], refusal["model"]) == ("somebody-elses", "other")
