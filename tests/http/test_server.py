"""Starting, finding the port, refusing a taken one, and stopping without cutting off whoever is being served."""

from __future__ import annotations

import asyncio
import signal
import socket

import anyio
import httpx
import pytest
import uvicorn
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


async def test_a_connection_that_comes_while_it_stops_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would stay open, and its caller would be answered by what has ended for as long as it asks."""
    ours, late = socket.socketpair()
    accepted = [late]
    servers: list[uvicorn.Server] = []

    async def shutdown(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        servers.append(server)
        await ended(server, sockets)

    async def sleep(seconds: float) -> None:
        """uvicorn has asked all that it knew to end, and gives them a moment."""
        if servers and accepted:
            await connect(servers[0], accepted.pop())
        await slept(seconds)

    async def connect(server: uvicorn.Server, connection: socket.socket) -> None:
        protocol = server.config.http_protocol_class
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol(server.config, server.server_state, {}),  # type: ignore[call-arg]
            connection,
        )

    ended, slept = uvicorn.Server.shutdown, asyncio.sleep
    async with anyio.create_task_group() as tasks:
        await tasks.start(serve, APP, "127.0.0.1", 0)
        monkeypatch.setattr(uvicorn.Server, "shutdown", shutdown)
        monkeypatch.setattr("uvicorn.server.asyncio.sleep", sleep)
        tasks.cancel_scope.cancel()
    with ours:
        ours.settimeout(10)
        assert servers
        assert ours.recv(1) == b"", "closed, not kept for requests"
