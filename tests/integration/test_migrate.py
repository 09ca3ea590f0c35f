"""A change of the model with real processes on a real broker, and somebody who searches all the time."""

from __future__ import annotations

import signal
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import orjson
import pytest

from streamer.app.migrations import refuse_retired
from streamer.core.vectors import unit_rows
from streamer.errors import ConfigurationError
from streamer.settings import load_settings
from tests.commands.in_process import Done
from tests.commands.in_process import streamer as command
from tests.support.processes import streamer
from tests.support.stages import Stage, free_port
from tests.support.static_models import static_folder, static_model
from tests.support.topics import read_all, read_until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

TEXTS = {
    f"id-{number}": f"{what} number {number} {how}"
    for number, (what, how) in enumerate(
        (what, how)
        for what in ("parcel", "letter", "invoice", "courier", "refund", "address")
        for how in ("arrived broken", "is late again", "was never sent", "went to a neighbour")
    )
}
QUERY = "the parcel is late"


@dataclass(slots=True)
class Searcher:
    """Asks without a pause, and holds each answer against the model of the space that it names."""

    url: str
    models: dict[str, Callable[[list[str]], Any]] = field(default_factory=dict)  # by space
    texts: dict[str, str] = field(default_factory=dict)
    spaces: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=20.0) as client:
            while True:
                response = await client.post("/v1/search", json={"text": QUERY, "k": 5})
                assert response.status_code == 200, response.text
                answer = response.json()
                assert len(answer["matches"]) == 5
                self.check(answer["space"], answer["matches"])
                self.spaces.append(answer["space"])
                await anyio.sleep(0.005)  # others want the processor, too

    def check(self, space: str, matches: list[dict[str, Any]]) -> None:
        query, *found = unit_rows(self.models[space]([QUERY, *(self.texts[match["id"]] for match in matches)]))
        expected = np.stack(found) @ query
        assert np.allclose(expected, [match["similarity"] for match in matches], atol=1e-3), "another space's"

    async def hears(self, space: str) -> None:
        """Until so many more answers are of the space, and none of another after the first of them."""
        start = len(self.spaces)
        with anyio.fail_after(60):
            while self.spaces[start:].count(space) < 5:  # noqa: ASYNC110 - another task counts
                await anyio.sleep(0.01)
        first = self.spaces.index(space, start)
        assert set(self.spaces[first:]) == {space}


@asynccontextmanager
async def searching(searcher: Searcher) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(searcher.run)
        yield
        tasks.cancel_scope.cancel()


def environ(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"STREAMER_{name.replace('.', '__')}".upper(): str(value) for name, value in settings.items()}


async def migrate(settings: Mapping[str, object], *arguments: str) -> Done:
    return await command("migrate", *arguments, "--json", **environ(settings))


async def succeeds(settings: Mapping[str, object], *arguments: str) -> dict[str, Any]:
    """Tried until it is possible: processes come up beside it."""
    with anyio.fail_after(90):
        while (done := await migrate(settings, *arguments)).code == 1:
            assert "not switched" in done.stderr
            await anyio.sleep(0.05)
    assert done.code == 0, done.stderr
    document: dict[str, Any] = orjson.loads(done.stdout)
    return document


@pytest.mark.real_kafka("end offsets to be relied on")
async def test_there_and_back_and_there_again_with_an_answer_all_the_time(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = static_model(1, 32), static_model(2, 48)
    folders = [str(static_folder(tmp_path / name, model)) for name, model in (("before", before), ("after", after))]
    settings = {
        **stage.settings,
        "provider.name": "static",
        "provider.model": folders[0],
        "topics.migrations": f"migrations-{uuid.uuid4().hex[:12]}",
    }
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
            started = await succeeds(settings, "start", "--to", f"provider.model={folders[1]}")
            new = started["new"]["space"]
            searcher.models[new] = after.encode
            assert (started["old"]["space"], started["estimate"]["records"]) == (old, 16)
            refused = await migrate(settings, "switch", "--max-lag", "0")
            assert refused.code == 1
            assert "the new workers are 16 records behind, more than 0" in refused.stderr
            assert (await migrate(settings, "start", "--to", f"provider.model={folders[1]}")).code == 2

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
