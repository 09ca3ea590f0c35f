"""Stand-ins for the outside world that only our own tests need; the others are `streamer.testing`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import BinaryIO

import anyio


class MemoryFile:
    """A ReplaceableFile. While `open_gate` is not set, writing waits before each piece."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = content
        self.error: OSError | None = None
        self.open_gate = anyio.Event()
        self.open_gate.set()
        self.attempts = self.replaced = 0

    def __str__(self) -> str:
        return "a file in memory"

    def open(self) -> BinaryIO:
        if self.content is None:
            raise FileNotFoundError
        return BytesIO(self.content)

    @asynccontextmanager
    async def replacing(self) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
        self.attempts += 1
        pieces: list[bytes] = []

        async def write(piece: bytes) -> None:
            await self.open_gate.wait()
            if self.error:
                raise self.error
            pieces.append(piece)

        yield write
        self.content = b"".join(pieces)
        self.replaced += 1
