"""`streamer check`: each part tried once, against fakes of the provider, with no broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.indexer.snapshots.format import encode
from streamer.indexer.verdicts.judge import VerdictPolicy
from tests.commands.in_process import Done, empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.brokers import NOBODY
from tests.support.schemas import check_lines
from tests.support.snapshots import FACTS, cut, new_judge, stream
from tests.support.vendors.misbehaviour import HANG, NOTHING, Fault, every_row_too_wide, refusal
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY

pytestmark = pytest.mark.anyio


WRONG: dict[str, tuple[Fault, list[str], str]] = {
    "a key": (refusal(401), [], "check the API key"),
    "a model": (refusal(404, "model_not_found"), [], "check provider.model"),
    "a quota": (refusal(429, "insufficient_quota"), [], "used up its quota or credit: raise it, or wait"),
    "a rate": (refusal(429, "rate_limit_exceeded"), [], "at a rate limit just now: try again"),
    "a server": (refusal(503), [], "is provider.base_url right, and the service up?"),
    "no answer": (HANG, ["--set", "provider.timeout_seconds=0.5"], "did not answer within 0.5 s"),
    "dimensions": (
        NOTHING,
        ["--set", "provider.model=text-embedding-ada-002", "--set", "provider.dimensions=512"],
        "has no vectors of 512 dimensions; allowed: 1536",
    ),
    "a longer vector": (
        Fault(rows=every_row_too_wide),
        ["--set", "provider.model=text-embedding-ada-002"],
        "sends vectors of 3072 dimensions, not 1536; set provider.dimensions = 3072",
    ),
}


async def check(server: FakeOpenAI, *options: str) -> Done:
    broker = ["-b", NOBODY, "--set", "kafka.connect_timeout_ms=1000"]
    provider = ["--set", "provider.name=openai", "--set", f"provider.base_url={server.base_url}"]
    return await streamer("check", *broker, *provider, *options, STREAMER_PROVIDER__API_KEY=KEY)


@pytest.mark.parametrize("what", WRONG)
async def test_check_names_what_is_wrong_and_what_to_do(what: str, tmp_path: Path) -> None:
    fault, options, says = WRONG[what]
    async with FakeOpenAI(key=KEY) as server:
        server.always = fault
        done = await check(server, *options)
        assert len(server.requests) <= 1
    [line] = [line for line in done.stdout.splitlines() if " provider: " in line]
    assert line.startswith("FAILED  provider: ")
    assert says in line
    assert KEY not in done.stdout + done.stderr
    assert done.code == 3  # there is no broker either
    assert "2 of 4 checks failed" in done.stderr


async def test_check_prints_json_lines() -> None:
    """First hour R8."""
    async with FakeOpenAI(key=KEY) as server:
        done = await check(server, "--json")
    lines = check_lines("check-line", done.stdout)
    assert [(line["check"], line["result"]) for line in lines] == [
        ("topics", "failed"), ("provider", "ok"), ("cache", "ok"), ("snapshot", "ok"),
    ]  # fmt: skip
    assert done.code == 3


async def test_check_tries_each_way_to_the_model(tmp_path: Path) -> None:
    async with FakeOpenAI(key=KEY) as first, FakeOpenAI(key="other") as second:
        entries = [{"base_url": second.base_url, "api_key": "other"}, {"base_url": second.base_url, "api_key": "wrong"}]
        done = await streamer(
            "check", "-b", NOBODY, "--set", "kafka.connect_timeout_ms=1000",
            STREAMER_PROVIDER__NAME="openai", STREAMER_PROVIDER__BASE_URL=first.base_url,
            STREAMER_PROVIDER__API_KEY=KEY,
            STREAMER_PROVIDER__FALLBACK=orjson.dumps(entries).decode(),
        )  # fmt: skip
    results = {line[8:].partition(":")[0]: line[:6].strip() for line in done.stdout.splitlines()}
    assert results == {
        "topics": "FAILED", "provider": "ok", "provider fallback.0": "ok", "provider fallback.1": "FAILED",
        "fallback": "ok", "cache": "ok", "snapshot": "ok",
    }  # fmt: skip


async def said_of_the_snapshot(*options: str) -> str:
    async with FakeOpenAI(key=KEY) as server:
        done = await check(server, *options)
    (line,) = [line for line in done.stdout.splitlines() if " snapshot: " in line]
    return line


def write_snapshot(path: Path, age: float) -> None:
    judge = new_judge(VerdictPolicy(), 10)
    judge.judge(stream(0, 30))
    moment = cut(judge)
    path.write_bytes(b"".join(encode(replace(moment, header=replace(moment.header, read_at=time.time() - age)))))


async def test_check_looks_at_the_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "index.snapshot"
    option = ["--set", f"index.snapshot_path={path}"]
    assert await said_of_the_snapshot("--set", "index.snapshot_path=") == "ok      snapshot: off"
    assert await said_of_the_snapshot(*option) == f"ok      snapshot: {path} will be created"
    write_snapshot(path, age=9000)
    holds = f"10 vectors of space {FACTS['space']}, {path.stat().st_size:,} bytes, 2.5 hours old"
    assert await said_of_the_snapshot(*option) == f"ok      snapshot: {path}: {holds}"
    path.write_bytes(path.read_bytes()[:60])
    ignored = f"ok      snapshot: {path} will be ignored, the index is read from the topic instead: it is cut short"
    assert (await said_of_the_snapshot(*option)).startswith(ignored)


async def said_of_the_provider(server: FakeOpenAI, *options: str) -> str:
    done = await check(server, *options)
    (line,) = [line for line in done.stdout.splitlines() if " provider: " in line]
    return line


async def test_row_3_check_asks_as_the_worker_will() -> None:
    async with FakeOpenAI(key=KEY) as server:
        server.more_fields = ("input_type",)
        options = ["dimensions=256", "input_type=passage", "query_input_type=question", "document_prefix=doc: "]
        line = await said_of_the_provider(
            server, *(word for option in options for word in ("--set", f"provider.{option}"))
        )
        assert line.startswith("ok      provider: openai text-embedding-3-small, 256 dimensions")
        asked = [request.json for request in server.requests]
    assert [one["input_type"] for one in asked] == ["passage", "passage", "question"]
    assert all(one["dimensions"] == 256 and one["encoding_format"] == "base64" for one in asked)
    first, second, _ = (one["input"] for one in asked)
    assert first == second[::-1]
    assert len({len(text) for text in first}) == 2
    assert all(text.startswith("doc: ") for text in first)


def by_length(answer: Any, asked: Any) -> Any:
    """A server that sorts the texts, to pad less, and forgets to put them back."""
    rows = [item["embedding"] for item in answer["data"]]
    order = sorted(range(len(rows)), key=lambda i: len(asked["input"][i]))
    for item, i in zip(answer["data"], order, strict=True):
        item["embedding"] = rows[i]
    return answer


def same_index(answer: Any, asked: Any) -> Any:
    for item in answer["data"]:
        item["index"] = 0
    return answer


def longer_is_empty(answer: Any, asked: Any) -> Any:
    for item, text in zip(answer["data"], asked["input"], strict=True):
        if len(text) > 10:
            item["embedding"] = []
    return answer


ODD: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "order": (by_length, "does not keep to the order of the texts"),
    "row 3b, all 0": (same_index, "index 0 for each of 2 embeddings"),
    "row 1, one empty": (longer_is_empty, "not of finite, positive length for the longer of 2 texts"),
    "row 22, an error": (lambda answer, asked: {"error": {"code": 401, "message": "No key"}}, "check the API key"),
    "row 22, a rate": (lambda answer, asked: {"error": {"code": 429, "message": "slow"}}, "at a rate limit just now"),
    "row 22, a model": (lambda answer, asked: {"error": "model 'x' not found"}, "check provider.model"),
}


@pytest.mark.parametrize("name", ODD)
async def test_check_names_what_differs(name: str) -> None:
    edit, says = ODD[name]
    async with FakeOpenAI(key=KEY) as server:
        server.edit = edit
        line = await said_of_the_provider(server)
    assert line.startswith("FAILED  provider: ")
    assert says in line


@pytest.mark.parametrize("named", ["bge-small-en", "text-embedding-3-large", "default"])
async def test_e8_check_says_that_the_server_names_another_model(named: str) -> None:
    async with FakeOpenAI(key=KEY) as server:
        server.edit = lambda answer, asked: answer | {"model": named}
        line = await said_of_the_provider(server)
    assert f"the service says that its model is '{named}': is 'text-embedding-3-small' right" in line


@pytest.mark.parametrize("named", ["openai/text-embedding-3-small", "TEXT-EMBEDDING-3-SMALL", "", None, 7])
async def test_e8_another_spelling_of_the_same_model_is_no_other(named: Any) -> None:
    async with FakeOpenAI(key=KEY) as server:
        server.edit = lambda answer, asked: answer | {"model": named}
        assert "the service says" not in await said_of_the_provider(server)


async def test_e6_check_names_the_encoding_that_the_server_takes() -> None:
    async with FakeOpenAI(key=KEY) as server:
        refused = Fault(status=400, body=b'{"message": "base64 encoding is not currently supported"}')
        server.always = lambda request: refused if request.json.get("encoding_format") == "base64" else NOTHING
        done = await check(server)
    assert "ok      provider: " in done.stdout
    assert 'set provider.encoding_format = "float"' in done.stdout + done.stderr.replace("\\", "")


async def test_a_database_of_vectors_is_looked_at_where_there_is_one() -> None:
    pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")
    async with FakeOpenAI(key=KEY) as server:
        without = await check(server)
        done = await check(server, "--set", "index.backend=milvus")
    assert "ok      index: streamer-index.db will be created" in done.stdout
    assert " index: " not in without.stdout
