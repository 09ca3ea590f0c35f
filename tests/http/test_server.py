"""Starting, finding the port, refusing a taken one, and stopping without cutting off whoever is being served."""

from __future__ import annotations

import signal
import socket

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streamer.errors import ConfigurationError
from streamer.http.server import serve
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", hello)])


async def test_serves_on_a_free_port_and_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with serving(APP) as client:
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        response = await client.get("/")
        assert response.text == "hello"
        assert "server" not in response.headers
        port = client.base_url.port
    assert port
    with socket.create_server(("127.0.0.1", port)):
        pass  # the port is free again


async def test_a_taken_port_is_a_wrong_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"^http.port = {port}: already in use on 127.0.0.1"):
            await serve(APP, "127.0.0.1", port)
        with pytest.raises(ConfigurationError, match=rf"^http.worker_port = {port}: already in use"):
            await serve(APP, "127.0.0.1", port, "http.worker_port")


async def test_an_unknown_host_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"^http\.host = '203\.0\.113\.1'"):
        await serve(APP, "203.0.113.1", 0)


async def test_an_ipv6_address_can_be_served() -> None:
    async with anyio.create_task_group() as tasks:
        try:
            port = await tasks.start(serve, APP, "::1", 0)
        except ConfigurationError as exc:
            pytest.skip(f"no IPv6 on this machine: {exc}")
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://[::1]:{port}/")).text == "hello"
        tasks.cancel_scope.cancel()


async def test_a_stop_lets_running_requests_end() -> None:
    arrived, release = anyio.Event(), anyio.Event()
    answers = []

    async def slow(_: Request) -> Response:
        arrived.set()
        await release.wait()
        return PlainTextResponse("finished")

    async def ask(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answers.append((await client.get(url)).text)

    async with anyio.create_task_group() as tasks, anyio.create_task_group() as serving_tasks:
        app = Starlette(routes=[Route("/", slow)])
        port = await serving_tasks.start(serve, app, "127.0.0.1", 0)
        tasks.start_soon(ask, f"http://127.0.0.1:{port}/")
        await arrived.wait()
        serving_tasks.cancel_scope.cancel()
        release.set()
    assert answers == ["finished"]
