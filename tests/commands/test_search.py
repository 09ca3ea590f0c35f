"""`streamer search` against an indexer, and against what is none."""

from __future__ import annotations

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from streamer.commands.search import why_nothing
from tests.commands.in_process import empty_folder as empty_folder
from tests.commands.in_process import streamer
from tests.support.indexing import SPACE, Topic
from tests.support.serving import DegreesEmbedder, serving, serving_an_index

pytestmark = pytest.mark.anyio


async def test_the_nearest_as_a_table_and_as_the_indexers_own_answer() -> None:
    """First hour D6."""
    topic = Topic()
    topic.append("a", 0, text="hello", lang="en")
    topic.append("b", 90)
    async with serving_an_index(topic, DegreesEmbedder()) as (http, _):
        table = await streamer("search", "0", "--url", f"{http.base_url}", "-k", "1")
        answer = await streamer("search", "0", "--url", f"{http.base_url}", "--min-similarity", "0.5", "--json")
        nothing = await streamer("search", "180", "--url", f"{http.base_url}", "--min-similarity", "0.9")
    assert table.stdout.split() == ["similarity", "id", "text", "1.000", "a", "hello"]
    assert orjson.loads(answer.stdout) == {
        "space": SPACE.id,
        "matches": [{"id": "a", "similarity": 1.0, "text": "hello", "metadata": {"lang": "en"}}],
    }
    assert nothing.stdout == "nothing found: none of the 2 vectors has a similarity of 0.9 or more\n"
    assert not table.stderr


async def test_hostile_ids_and_texts_are_text() -> None:
    topic = Topic()
    topic.append("[red]id[/red]", 0, text="[INFO] [/b] a \x1b[31mred\nline")
    async with serving_an_index(topic, DegreesEmbedder()) as (http, _):
        done = await streamer("search", "0", "--url", f"{http.base_url}", COLUMNS="100")
    assert done.code == 0, done.stderr
    assert "[red]id[/red]" in done.stdout
    assert r"[INFO] [/b] a \x1b[31mred line" in done.stdout


async def test_an_empty_index_and_one_without_texts_say_so() -> None:
    """First hour B1 and D6."""
    async with serving_an_index(Topic(), DegreesEmbedder()) as (http, _):
        empty = await streamer("search", "0", "--url", f"{http.base_url}")
        as_json = await streamer("search", "0", "--url", f"{http.base_url}", "--json")
    assert (empty.code, empty.stderr) == (0, "")
    assert empty.stdout.startswith("nothing found: the index is empty (0 vectors)")
    assert orjson.loads(as_json.stdout)["matches"] == []
    topic = Topic()
    topic.append("a", 0)
    async with serving_an_index(topic, DegreesEmbedder()) as (http, _):
        textless = await streamer("search", "0", "--url", f"{http.base_url}")
    assert textless.stderr == "no texts: the worker of these vectors ran with output.include_text = false\n"


def test_a_restore_that_goes_on_is_why() -> None:
    statistics = {"ready": False, "vectors": 5, "restore_records": 5_000, "restore_remaining": 3_800}
    assert why_nothing(statistics, 0.9) == "nothing found yet: the index is restoring, 1,200 of 5,000 records read"


async def test_the_token_comes_from_the_settings() -> None:
    topic = Topic()
    topic.append("a", 0)
    async with serving_an_index(topic, DegreesEmbedder(), token="s3cret") as (http, _):
        without = await streamer("search", "0", "--url", f"{http.base_url}")
        done = await streamer("search", "0", "--url", f"{http.base_url}", STREAMER_HTTP__TOKEN="s3cret")
    assert (without.code, done.code) == (1, 0)
    assert "refused (401): this needs the header" in without.stderr


@pytest.mark.parametrize(
    ("status", "document", "code", "message"),
    [
        (502, ["not an object"], 1, "refused (502): Bad Gateway"),
        (200, ["not an object"], 3, "is not a streamer indexer"),
    ],
)
async def test_a_server_that_is_no_indexer(status: int, document: object, code: int, message: str) -> None:
    async def answer(_: Request) -> JSONResponse:
        return JSONResponse(document, status)

    async with serving(Starlette(routes=[Route("/v1/search", answer, methods=["POST"])])) as http:
        done = await streamer("search", "hello", "--url", f"{http.base_url}")
    assert done.code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[", "nowhere"])
async def test_no_indexer(url: str) -> None:
    done = await streamer("search", "hello", "--url", url)
    assert done.code == 3
    assert f"no indexer answers at {url} (" in done.stderr
    assert "start one with: streamer index" in done.stderr
