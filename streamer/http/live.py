"""Verdicts as they are given, as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from anyio import EndOfStream, move_on_after
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from streamer.indexer.broadcast import Broadcast

_HEARTBEAT: Final = 15.0  # seconds; a comment, so that proxies keep the connection and dead clients are noticed


def live_endpoint(live: Broadcast, heartbeat: float = _HEARTBEAT) -> Callable[[Request], Awaitable[Response]]:
    """Answers with one `verdict` event for each verdict from now on; a slow client misses some rather than slow us."""

    async def verdicts(_: Request) -> Response:
        if live.full:
            raise HTTPException(503, "too many clients listen to live verdicts, or this indexer is stopping")

        async def lines() -> AsyncIterator[bytes]:
            # Opened here: a client that is gone before the first line leaves nothing behind.
            with live.listen() as messages:
                yield b": verdicts from now on\n\n"
                while True:
                    message = None
                    with move_on_after(heartbeat):
                        try:
                            message = await messages.receive()
                        except EndOfStream:
                            return
                    yield b":\n\n" if message is None else b"event: verdict\ndata: " + message + b"\n\n"

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(lines(), headers=headers, media_type="text/event-stream")

    return verdicts
