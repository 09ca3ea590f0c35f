"""A change of the model with real processes on a real broker, and somebody who searches all the time."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import httpx
import orjson
import pytest

from streamer.app.migrations import refuse_retired
from streamer.errors import ConfigurationError
from streamer.settings import load_settings
from tests.support.migrating import TEXTS, Searcher, migrate, searching, succeeds, two_models
from tests.support.processes import streamer
from tests.support.stages import Stage, free_port
from tests.support.topics import read_all, read_until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


@pytest.mark.real_kafka("end offsets to be relied on")
@pytest.mark.parametrize("backend", ["memory", "milvus"])
async def test_there_and_back_and_there_again_with_an_answer_all_the_time(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    if backend == "milvus":
        pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")
    monkeypatch.chdir(tmp_path)
    before, after, folder, own = two_models(stage, tmp_path)
    settings = own | {"index.backend": backend, "index.milvus_uri": str(tmp_path / "index.db")}
    pairs = [(id.encode(), text.encode()) for id, text in TEXTS.items()]
    searcher = Searcher(f"http://127.0.0.1:{stage.index_port}", texts=TEXTS)
    with streamer("run", settings) as worker, streamer("index", settings) as indexer:
        await worker.ready(stage.port)
        await indexer.ready(stage.index_port)
        await stage.produce(pairs[:16])
        async with httpx.AsyncClient(base_url=searcher.url) as client:
            with anyio.fail_after(60):
                while (stats := (await client.get("/v1/stats")).json())["vectors"] < 16:  # noqa: ASYNC110
                    await anyio.sleep(0.02)
            old = stats["space"]
        searcher.models[old] = before.encode
        async with searching(searcher):
            started = await succeeds(settings, "start", "--to", f"provider.model={folder}")
            new = started["new"]["space"]
            searcher.models[new] = after.encode
            assert (started["old"]["space"], started["estimate"]["records"]) == (old, 16)
            refused = await migrate(settings, "switch", "--max-lag", "0")
            assert refused.code == 1
            assert "the new workers are 16 records behind, more than 0" in refused.stderr
            again = await succeeds(settings, "start", "--to", f"provider.model={folder}")
            assert again["new"] == started["new"], "as after a kill: it is running, and not begun twice"
            other = await migrate(settings, "start", "--to", f"provider.model={folder}", "--rate", "5/s")
            assert (other.code, "is running already" in other.stderr) == (2, True)

            beside = settings | {"http.worker_port": free_port()}
            with streamer("run", beside, "--migration") as second:
                await stage.produce(pairs[16:20])
                await succeeds(settings, "switch", "--max-lag", "0")
                await searcher.hears(new)
                seen = await succeeds(settings, "status")
                assert (seen["progress"]["share"], seen["progress"]["workers"]) == (1.0, 1)
                assert seen["indexer"]["serving"] == "new"
                assert 0 <= seen["agreement"]["overlap"] <= 1

                await succeeds(settings, "back")
                await searcher.hears(old)
                await stage.produce(pairs[20:])
                await succeeds(settings, "switch", "--max-lag", "0")
                await searcher.hears(new)
                topics = seen["new"]["topics"]
                for topic in (stage.vectors, stage.verdicts, topics["vectors"], topics["verdicts"]):
                    await read_until(stage.bootstrap_servers, topic, lambda records: len(records) == len(TEXTS))

                worker.send_signal(signal.SIGTERM)
                assert await worker.wait() == 0, worker.stderr
                finished = await succeeds(settings, "finish", "--delete")
                assert (finished["running"], finished["serving"]) == (False, "new")
                assert f"deleted: {stage.vectors}" in finished["said"]
                assert ("Milvus collections streamer_" in finished["said"]) == (backend == "milvus")
                await searcher.hears(new)
                assert [one for one in indexer.logs if one["level"] == "error"] == []
                with pytest.raises(
                    ConfigurationError, match="has changed its model"
                ):  # what a worker asks at its start
                    await refuse_retired(
                        load_settings(None, {}, {name: str(value) for name, value in settings.items()})
                    )
                second.send_signal(signal.SIGTERM)
                assert await second.wait() == 0, second.stderr
        indexer.send_signal(signal.SIGTERM)
        assert await indexer.wait() == 0, indexer.stderr
    for topic in (topics["vectors"], topics["verdicts"]):
        records = await read_all(stage.bootstrap_servers, topic)
        assert sorted(record.key.decode() for record in records) == sorted(TEXTS)
        assert {orjson.loads(record.value)["space"] for record in records} == {new}
