"""Field case F10: unfinished, slow and too many requests, while health is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streamer.http import api, limits
from streamer.http.health import create_app
from streamer.http.limits import MOST_REQUESTS, BoundedProtocol, most_connections
from tests.support.serving import serving
from tests.support.serving import small_index as serving_api

pytestmark = pytest.mark.anyio

UNFINISHED = b"GET / HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture(autouse=True)
def a_busy_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """To open hundreds of connections may take longer than headers may; tests about that set a time of their own."""
    monkeypatch.setattr(BoundedProtocol, "header_seconds", 300.0)


@asynccontextmanager
async def holding(client: httpx.AsyncClient, number: int, data: bytes) -> AsyncIterator[list[SocketStream]]:
    """So many connections that have sent this, and nothing more."""
    async with AsyncExitStack() as stack:
        held = []
        for _ in range(number):
            stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", client.base_url.port or 0))
            await stream.send(data)
            held.append(stream)
        yield held


async def healthz(_: Request) -> Response:
    return PlainTextResponse("alive")


class Slow:
    """Answers when it is released."""

    def __init__(self) -> None:
        self.release = anyio.Event()
        self.begun = 0
        self.app = create_app([Route("/", self._answer), Route("/healthz", healthz)], None)

    async def _answer(self, _: Request) -> Response:
        self.begun += 1
        await self.release.wait()
        return PlainTextResponse("done")


@pytest.mark.parametrize(
    "data", [UNFINISHED, b"", *(pytest.param(data, marks=pytest.mark.slow) for data in (b"G", b"POST / HTTP/1.1\r\n"))]
)
async def test_f10_health_answers_while_300_requests_are_unfinished(data: bytes) -> None:
    async with serving_api() as client, holding(client, 300, data):
        for path in ("/healthz", "/readyz", "/metrics", "/v1/stats"):
            assert (await client.get(path)).status_code == 200


async def test_f10_more_connections_than_may_be_open_take_the_place_of_the_idlest() -> None:
    most = most_connections()
    async with serving_api() as client, holding(client, most + 20, UNFINISHED) as held:
        assert (await client.get("/healthz")).status_code == 200
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await held[0].receive()


async def test_f10_connections_in_use_keep_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.http.server.most_connections", lambda: 4)
    slow = Slow()
    async with serving(slow.app) as client, anyio.create_task_group() as tasks:
        answers: list[str] = []

        async def ask() -> None:
            answers.append((await client.get("/")).text)

        tasks.start_soon(ask)
        while not slow.begun:  # noqa: ASYNC110 - the request is on its way
            await anyio.sleep(0.01)
        async with holding(client, 8, UNFINISHED):
            assert (await client.get("/healthz")).text == "alive"
            slow.release.set()
    assert answers == ["done"]


async def test_f10_headers_have_a_time_to_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "header_seconds", 0.2)
    async with serving_api() as client, holding(client, 1, UNFINISHED) as (slow,):
        with anyio.fail_after(20):
            assert (await slow.receive()).startswith(b"HTTP/1.1 408 ")
            with pytest.raises(anyio.EndOfStream):
                await slow.receive()


async def test_f10_headers_that_trickle_are_no_excuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "header_seconds", 0.3)
    async with serving_api() as client, holding(client, 1, UNFINISHED) as (slow,):
        with anyio.fail_after(20):
            try:
                while True:
                    await slow.send(b"x-more: 1\r\n")
                    await anyio.sleep(0.02)
            except anyio.BrokenResourceError:
                pass  # closed, though it was never silent


@pytest.mark.slow
async def test_f10_the_second_request_of_a_connection_has_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "header_seconds", 1.0)  # in which the first one certainly arrives
    complete = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with serving_api() as client, holding(client, 1, complete) as (slow,):
        with anyio.fail_after(20):
            assert (await slow.receive()).startswith(b"HTTP/1.1 200")
            await slow.send(UNFINISHED)
            assert (await slow.receive()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.slow
async def test_f10_an_answer_that_takes_longer_than_headers_may_is_no_slow_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BoundedProtocol, "header_seconds", 1.0)
    slow = Slow()
    async with serving(slow.app) as client, anyio.create_task_group() as tasks:

        async def release() -> None:
            await anyio.sleep(1.3)
            slow.release.set()

        tasks.start_soon(release)
        assert (await client.get("/")).text == "done"


async def test_f10_a_body_has_a_time_to_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BODY_SECONDS", 0.2)
    begun = (
        b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
    )
    async with serving_api() as client, holding(client, 1, begun) as (slow,):
        with anyio.fail_after(20):
            assert b" 408 " in await slow.receive()


async def test_f10_searches_beyond_the_limit_are_told_to_come_back_and_health_is_not() -> None:
    slow = Slow()
    async with serving(slow.app) as client, holding(client, MOST_REQUESTS, UNFINISHED + b"\r\n"):
        with anyio.fail_after(30):
            while slow.begun < MOST_REQUESTS:  # noqa: ASYNC110 - the requests are on their way
                await anyio.sleep(0.01)
        refused = await client.get("/")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "256 requests" in refused.json()["error"]
        assert (await client.get("/healthz")).text == "alive"
        slow.release.set()
        while (await client.get("/")).status_code == 503:  # noqa: ASYNC110 - only asking tells
            await anyio.sleep(0.01)


def test_f10_a_process_with_few_handles_keeps_some_for_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for allowed, most in [(64, 32), (256, 128), (1024, 512), (1_000_000, 512)]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, allowed=allowed: (allowed, allowed))
        assert limits.most_connections() == most
