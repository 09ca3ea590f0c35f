"""A change of the model whose every part is killed on the way: what is decided stays decided, and goes on."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.topics import existing_topics
from tests.support.migrating import QUERY, Searcher, migrate, succeeds, two_models
from tests.support.processes import StreamerProcess, streamer
from tests.support.stages import Stage, free_port
from tests.support.topics import read_all, read_until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

TEXTS = {f"id-{n}": f"parcel number {n} {('is late', 'arrived broken', 'was never sent')[n % 3]}" for n in range(240)}


async def killed(process: StreamerProcess) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(90):
        while not await condition():  # noqa: ASYNC110 - another process changes it
            await anyio.sleep(0.02)


def has_heard(indexer: StreamerProcess, change: str) -> bool:
    said = "a change of the model is decided"
    return any(line["event"] == said and line["change"] == change for line in indexer.logs)


async def killed_once_it_has_decided(settings: Mapping[str, object], indexer: StreamerProcess, *arguments: str) -> None:
    """The command, before it could see what came of it; run again for as long as it is refused."""
    with anyio.fail_after(120):
        while not has_heard(indexer, arguments[0]):
            with streamer("migrate", settings, *arguments, "--json") as command:
                while command.process.poll() is None and not has_heard(indexer, arguments[0]):  # noqa: ASYNC110
                    await anyio.sleep(0.02)
                if command.process.poll() is None:
                    await killed(command)
                else:
                    assert command.process.returncode == 0 or "not switched" in command.stderr, command.stderr


@pytest.mark.real_kafka("end offsets to be relied on")
async def test_each_part_is_killed_and_what_is_run_again_goes_on(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, after, folder, own = two_models(stage, tmp_path)
    settings = own | {"batch.max_events": 16, "kafka.session_timeout_ms": 6_000}
    beside = settings | {"http.worker_port": free_port()}
    start = ("start", "--to", f"provider.model={folder}", "--rate", "30/s")  # 240 texts take eight seconds
    connection = KafkaConnection(bootstrap_servers=stage.bootstrap_servers)
    searcher = Searcher(f"http://127.0.0.1:{stage.index_port}", texts=TEXTS)

    async def told(path: str) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=searcher.url) as client:
            document: dict[str, Any] = (await client.get(path)).json()
            return document

    async def answering() -> str:
        """The space whose model has found what a search finds now."""
        async with httpx.AsyncClient(base_url=searcher.url) as client:
            answer = (await client.post("/v1/search", json={"text": QUERY, "k": 5})).json()
        searcher.check(answer["space"], answer["matches"])
        return str(answer["space"])

    async def has_new_topics() -> bool:
        return any(name.startswith(f"{stage.vectors}.") for name in await existing_topics(connection))

    with streamer("run", settings) as worker:
        with streamer("index", settings) as indexer:
            await worker.ready(stage.port)
            await indexer.ready(stage.index_port)
            await stage.produce([(id.encode(), text.encode()) for id, text in TEXTS.items()])
            await until(lambda: _is(told("/v1/stats"), "vectors", len(TEXTS)))
            old = (await told("/v1/stats"))["space"]
            searcher.models[old] = before.encode

            with streamer("migrate", settings, *start, "--json") as starting:
                await until(has_new_topics)
                await killed(starting)
            started = await succeeds(settings, *start)
            new, topics = started["new"]["space"], started["new"]["topics"]
            searcher.models[new] = after.encode

            with streamer("run", beside, "--migration") as doomed:
                await read_until(stage.bootstrap_servers, topics["vectors"], lambda records: len(records) >= 16)
                await killed(doomed)
            refused = await migrate(settings, "switch", "--max-lag", "0")
            assert (refused.code, "records behind, more than 0" in refused.stderr) == (1, True)
            await until(lambda: _is(told("/v1/status"), "indexes", [started["old"]["group"], started["new"]["group"]]))
            assert await answering() == old
            await killed(indexer)

        with streamer("run", beside, "--migration") as second, streamer("index", settings) as indexer:
            await indexer.ready(stage.index_port)
            assert await answering() == old
            await killed_once_it_has_decided(settings, indexer, "switch", "--max-lag", "0")
            assert (await succeeds(settings, "switch", "--max-lag", "0"))["serving"] == "new"
            assert await answering() == new
            await killed(indexer)
            with streamer("index", settings) as indexer:
                await indexer.ready(stage.index_port)
                assert await answering() == new
                seen = await succeeds(settings, "status")
                assert (seen["serving"], seen["indexer"]["serving"]) == ("new", "new")

                worker.send_signal(signal.SIGTERM)
                assert await worker.wait() == 0, worker.stderr
                await killed_once_it_has_decided(settings, indexer, "finish", "--delete")
                finished = await succeeds(settings, "finish", "--delete")
                assert (finished["running"], finished["serving"]) == (False, "new")
                assert stage.vectors not in await existing_topics(connection)
                assert await answering() == new
                assert second.process.poll() is None
    records = await read_all(stage.bootstrap_servers, topics["vectors"])
    assert {record.key.decode() for record in records} == TEXTS.keys()
    assert {orjson.loads(record.value)["space"] for record in records} == {new}
    verdicts = [orjson.loads(record.value) for record in await read_all(stage.bootstrap_servers, topics["verdicts"])]
    assert {verdict["id"] for verdict in verdicts} == TEXTS.keys()


async def _is(document: Awaitable[dict[str, Any]], name: str, value: object) -> bool:
    return bool((await document)[name] == value)
