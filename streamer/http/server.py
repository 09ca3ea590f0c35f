"""Serves an application with uvicorn inside a task of ours: it starts, reports its port and stops like any other."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from anyio import TASK_STATUS_IGNORED, CancelScope, Event, create_task_group, sleep_forever
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from streamer.errors import ConfigurationError
from streamer.http.limits import BoundedProtocol, most_connections


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    setting: str = "http.port",
    *,
    task_status: TaskStatus[int] = TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled, then let running requests end, for two seconds at most.

    Reports the port once it listens; port 0 takes a free one. Raises ConfigurationError, which
    names the port's `setting`, when it cannot listen there.
    """
    closing = Event()
    with _listen(host, port, setting) as listener:
        server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                http=type("_Protocol", (BoundedProtocol,), {"most": most_connections(), "closing": closing}),
                timeout_graceful_shutdown=2,
            )
        )
        async with create_task_group() as tasks:
            tasks.start_soon(_run, server, listener)
            try:
                await server.listening.wait()
                task_status.started(listener.getsockname()[1])
                await sleep_forever()
            finally:
                closing.set()
                server.should_exit = True


async def _run(server: _Server, listener: socket.socket) -> None:
    # Cancelled, uvicorn would drop its connections; it is asked to end instead.
    with CancelScope(shield=True):
        await server.serve([listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals belong to the command

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        host.encode("idna")  # which a socket does too late, and then is not closed
    except UnicodeError as exc:
        raise ConfigurationError(f"http.host = {host!r}: not the name of a host: {exc}") from exc
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise ConfigurationError(f"{setting} = {port}: already in use on {host}; choose another, or 0") from exc
        if exc.errno == errno.EACCES:
            raise ConfigurationError(f"{setting} = {port}: this user may not listen there; try above 1023") from exc
        raise ConfigurationError(f"http.host = {host!r}: cannot listen there: {exc}") from exc
