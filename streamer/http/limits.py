"""How much of a server strangers may hold: connections, requests at a time, and time to send what they ask."""

from __future__ import annotations

import sys
from asyncio import Transport
from typing import Any, Final

from anyio import Event
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamer.http.answers import json_response
from streamer.http.callers import FOR_PROBES

HEADER_SECONDS: Final = 10.0
BODY_SECONDS: Final = 20.0
MOST_REQUESTS: Final = 256
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_MOST_CONNECTIONS: Final = 512
_FEWEST_CONNECTIONS: Final = 32


def most_connections() -> int:
    """Half of the file handles that this process may open, at most 512: Kafka and the cache need theirs."""
    if sys.platform == "win32":
        return _MOST_CONNECTIONS
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(_FEWEST_CONNECTIONS, min(_MOST_CONNECTIONS, allowed // 2))


class RequestLimit:
    """Answers 503 while `most` requests are being served. Requests of probes are not counted and always served: a
    process that answers them is not to be restarted for being busy."""

    def __init__(self, app: ASGIApp, most: int = MOST_REQUESTS) -> None:
        self._app = app
        self._most = most
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in FOR_PROBES:
            await self._app(scope, receive, send)
            return
        if self._served >= self._most:
            message = f"{self._most} requests are being served; try again in a moment"
            await json_response({"error": message}, 503, {"retry-after": "1"})(scope, receive, send)
            return
        self._served += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._served -= 1


class BoundedProtocol(H11Protocol):
    """A connection whose request line and headers must arrive in HEADER_SECONDS.

    A connection beyond the most that may be open takes the place of the one that has waited longest without a request,
    so that whoever holds many unfinished requests keeps nobody else out.

    A connection that comes while its server is `closing` is not served: uvicorn closes only those that it knows by
    then, and whoever holds a later one would be answered by what has ended.
    """

    header_seconds = HEADER_SECONDS
    most = _MOST_CONNECTIONS
    closing: Event | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: Any = None
        self.waiting_since = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether no request of it is being served."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.waiting_since = self.loop.time()
        if self.closing is not None and self.closing.is_set():
            self.drop()
        elif len(self.connections) > self.most:
            idle = [other for other in self.connections if isinstance(other, BoundedProtocol) and other.is_waiting]
            min(idle, key=lambda other: other.waiting_since, default=self).drop()
        if not transport.is_closing():
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing() or not self.is_waiting:
            self._stop_waiting()
        elif self._deadline is None:
            self._await_headers()  # of another request on the same connection

    def on_response_complete(self) -> None:
        self.waiting_since = self.loop.time()
        super().on_response_complete()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.transport.is_closing() or not self.is_waiting:
            return
        unfinished, _ = self.conn.trailing_data
        if unfinished:
            self.transport.write(_TOO_SLOW)
        self.transport.close()

    def drop(self) -> None:
        self._stop_waiting()
        self.transport.abort()
