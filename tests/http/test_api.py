"""The indexer's API over HTTP, in front of a real indexer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import numpy as np
import orjson
import pytest

from streamer.errors import SpaceMismatch
from streamer.http.api import LARGEST_BODY, create_api
from streamer.http.role_state import RoleState
from streamer.telemetry.waiting import Held
from tests.support.indexing import OTHER, SPACE, Running, Topic
from tests.support.serving import DegreesEmbedder, serving, serving_an_index
from tests.support.serving import small_index as api

pytestmark = pytest.mark.anyio


JSON = {"content-type": "application/json"}


async def search(client: httpx.AsyncClient, **body: Any) -> list[tuple[str, float]]:
    response = await client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    assert response.json()["space"] == SPACE.id
    return [(match["id"], round(match["similarity"], 3)) for match in response.json()["matches"]]


async def refused(client: httpx.AsyncClient, status: int, **body: Any) -> str:
    response = await client.post("/v1/search", json=body)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    return str(response.json()["error"])


async def test_search_by_vector_text_and_id() -> None:
    embedder = DegreesEmbedder()
    async with api(embedder) as client:
        assert await search(client, vector=[5, 0]) == [("id-0", 1.0), ("a/1", 0.866), ("id-2", 0.5)]
        assert await search(client, vector=[5, 0], k=2) == [("id-0", 1.0), ("a/1", 0.866)]
        assert await search(client, vector=[5, 0], min_similarity=0.9) == [("id-0", 1.0)]
        assert await search(client, text="90", k=1) == [("id-2", 0.866)]
        assert await search(client, id="id-0", k=1) == [("a/1", 0.866)]  # not itself
    assert embedder.purposes == ["query"]


async def test_a_search_that_cannot_be_made_says_why() -> None:
    async with api(DegreesEmbedder(), embed_timeout=0.2) as client:
        assert await refused(client, 404, id="nobody") == "no vector of id 'nobody' is known"
        assert "exactly one of" in await refused(client, 400, text="90", id="id-0")
        assert "not a number of degrees" in await refused(client, 422, text="ninety")
        assert "the quota is used up" in await refused(client, 503, text="blocked")
        assert "did not answer within 0.2 seconds" in await refused(client, 503, text="wait")
    async with api() as client:
        assert "without a provider" in await refused(client, 400, text="90")


async def test_a_search_for_another_space_is_a_conflict() -> None:
    async with api() as client:
        assert await search(client, vector=[5, 0], k=1, space=SPACE.id) == [("id-0", 1.0)]
        said = await refused(client, 409, vector=[1, 0, 0], space=OTHER.id)
        assert said == f"the search is for space {OTHER.id!r}, this index is of space {SPACE.id!r}"


async def test_an_embedder_of_another_space_is_refused() -> None:
    indexer = Running(Topic()).indexer
    with pytest.raises(SpaceMismatch, match=f"{OTHER.id}.*{SPACE.id}"):
        create_api(indexer, DegreesEmbedder(OTHER))


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_has_a_largest_size(chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LARGEST_BODY // 1024 + 1):
            yield b" " * 1024

    async with api() as client:
        response = await client.post(
            "/v1/search", content=chunks() if chunked else b" " * (LARGEST_BODY + 1), headers=JSON
        )
        assert (response.status_code, response.json()) == (413, {"error": "the body is larger than 1,048,576 bytes"})
        response = await client.post("/v1/search", content=b" " * LARGEST_BODY, headers=JSON)
        assert response.status_code == 400


async def test_a_vector_is_found_by_its_id() -> None:
    async with api() as client:
        response = await client.get("/v1/vectors/a%2F1")
        document = response.json()
        assert np.allclose(document.pop("vector"), [0.8660254, 0.5])
        assert document == {"id": "a/1", "space": SPACE.id, "dimensions": 2}
        response = await client.get("/v1/vectors/nobody")
        assert (response.status_code, response.json()) == (404, {"error": "no vector of id 'nobody' is known"})


@pytest.mark.parametrize("id", ["a\nb", "\n", "a\r\nb/c", "a b", "a?b#c", "50%", "\u2028", "a//b", "é\n\n"])
async def test_21_ids_of_any_characters_are_found(id: str) -> None:
    """Field case 21."""
    topic = Topic()
    topic.append(id, 0)
    async with serving_an_index(topic) as (client, _):
        response = await client.get(f"/v1/vectors/{quote(id, safe='')}")
        assert (response.status_code, response.json().get("id")) == (200, id)


async def test_statistics_and_metrics_agree() -> None:
    async with api() as client:
        statistics = (await client.get("/v1/stats")).json()
        verdicts = {"near_duplicate": 2, "anomaly": 0, "ordinary": 0, "warming_up": 1}
        assert (statistics["vectors"], statistics["verdicts_total"]) == (3, verdicts)
        metrics = (await client.get("/metrics")).text
        assert "streamer_indexer_vectors 3.0" in metrics
        assert 'streamer_indexer_verdicts_total{reason="",verdict="near_duplicate"} 2.0' in metrics
        assert 'streamer_indexer_verdicts_total{reason="content",verdict="anomaly"} 0.0' in metrics


async def test_ready_when_caught_up() -> None:
    topic = Topic()
    topic.append("a", 0)
    this = Running(topic)
    async with serving(create_api(this.indexer, None)) as client, anyio.create_task_group() as tasks:
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"error": "not started"})
        assert (await client.get("/healthz")).status_code == 200
        tasks.start_soon(this.indexer.run)
        await this.catch_up()
        assert (await client.get("/readyz")).status_code == 200
        this.indexer.stop()


async def test_unknown_paths_and_methods_are_json_too() -> None:
    async with api() as client:
        for method, path, status in [("GET", "/v2", 404), ("GET", "/v1/search", 405), ("PUT", "/v1/stats", 405)]:
            response = await client.request(method, path)
            assert response.status_code == status
            assert response.json().keys() == {"error"}


async def test_an_unexpected_error_is_a_bare_500_and_the_next_request_is_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    indexer = Running(Topic()).indexer
    async with serving(create_api(indexer, None)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(type(indexer), "statistics", lambda self: 1 / 0)
            response = await client.get("/v1/stats")
        assert response.status_code == 500
        assert response.json().keys() == {"error"}
        assert "ZeroDivisionError" in caplog.text
        assert "ZeroDivisionError" not in response.text
        assert (await client.get("/v1/stats")).status_code == 200


async def test_a_client_that_hangs_up_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with api() as client:
        stream = await anyio.connect_tcp("127.0.0.1", client.base_url.port or 0)
        headers = [b"host: localhost", b"content-type: application/json", b"content-length: 100"]
        await stream.send(b"\r\n".join([b"POST /v1/search HTTP/1.1", *headers, b"", b"{"]))
        await stream.aclose()
        assert (await client.get("/healthz")).status_code == 200
    assert "Traceback" not in caplog.text


async def test_the_token_guards_the_api() -> None:
    async with api(token="s3cret") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert "Authorization" in await refused(client, 401, vector=[1, 0])
        client.headers["authorization"] = "Bearer s3cret"
        assert len(await search(client, vector=[1, 0])) == 3


async def test_the_page_for_people_needs_the_token_too() -> None:
    async with api(token="s3cret") as client:
        for path in ("/", "/page/index.js", "/v1/recent", "/v1/map", "/v1/overview"):
            assert (await client.get(path)).status_code == 401
            response = await client.get(path, auth=("anybody", "s3cret"))
            assert response.status_code == 200
        assert (await client.get("/", auth=("anybody", "s3cret"))).headers["content-type"] == "text/html; charset=utf-8"


async def test_metadata_and_text_are_remembered_and_can_be_asked_for() -> None:
    topic = Topic()
    topic.append("a", 0, text="x" * 2000, lang="en", stars=5)
    topic.append("b", 10, text="hello", lang="de", stars=True)
    topic.append("c", 20)
    topic.append("d", 30, lang="en", payloads="x" * 3000)
    async with serving_an_index(topic) as (client, _):
        body = {"vector": [1, 0]}
        answer = (await client.post("/v1/search", json=body)).json()["matches"]
        assert [(m["id"], m.get("text"), m.get("metadata")) for m in answer] == [
            ("a", "x" * 1000, {"lang": "en", "stars": 5}),
            ("b", "hello", {"lang": "de", "stars": True}),
            ("c", None, None),
            ("d", None, None),
        ]
        for where, expected in [({"lang": "en"}, ["a"]), ({"stars": 5.0, "lang": "en"}, ["a"]), ({"stars": 1}, [])]:
            answer = (await client.post("/v1/search", json=body | {"where": where})).json()["matches"]
            assert [match["id"] for match in answer] == expected
        response = await client.post("/v1/search", json=body | {"where": {"lang": ["en"]}})
        assert response.status_code == 400
        assert "'where' must be an object" in response.json()["error"]


async def test_verdicts_are_streamed_while_they_are_made() -> None:
    topic = Topic()
    async with serving_an_index(topic) as (client, this):
        async with client.stream("GET", "/v1/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = response.aiter_lines()
            assert await anext(lines) == ": verdicts from now on"
            await this.until(lambda: this.indexer.statistics().live_listeners == 1)
            topic.append("a", 0)
            topic.append("b", 1)
            said = []
            async for line in lines:
                if line.startswith("data: "):
                    said.append(orjson.loads(line.removeprefix("data: ")))
                if len(said) == 2:
                    this.indexer.stop()  # ends the stream of lines
            assert [(verdict["id"], verdict["duplicate_of"]) for verdict in said] == [("a", None), ("b", "a")]
        response = await client.get("/v1/events")
        assert response.status_code == 503


@pytest.mark.parametrize("token", [None, "secret"])
async def test_the_interface_describes_itself(token: str | None) -> None:
    headers = {"authorization": "Bearer secret"}
    async with api(token=token) as client:
        document = (await client.get("/openapi.json", headers=headers)).json()
        assert document["openapi"] == "3.1.0"
        assert ("security" in document) == (token is not None)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if path != "/v1/events":
                    url = path.replace("{id}", "id-0")
                    response = await client.request(method, url, headers=headers, json={"id": "id-0"})
                    assert str(response.status_code) in operation["responses"]


async def test_what_it_does_without_is_told_though_it_is_ready() -> None:
    this = Running(Topic())
    lacks = [Held("disk_full", "snapshot: the disk is full", 1_750_000_000.0, None)]
    app = create_api(this.indexer, None, state=lambda: RoleState(not_ready=this.indexer.ready(), degraded=lacks))
    async with anyio.create_task_group() as tasks, serving(app) as client:
        tasks.start_soon(this.indexer.run)
        await this.catch_up()
        answer = (await client.get("/readyz")).json()
        assert (answer["ready"], answer["without"]) == (True, "snapshot: the disk is full")
        overview = (await client.get("/v1/overview")).json()
        assert (overview["not_ready"], overview["without"]) == (None, "snapshot: the disk is full")
        assert overview["degraded"] == answer["degraded"]
        this.indexer.stop()
