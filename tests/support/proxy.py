"""A TCP proxy on loopback that breaks connections the way networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

CHUNK = 65536
CHUNKS_UNDERWAY = 64


@dataclass(slots=True, eq=False)
class Direction:
    """What happens to the bytes that flow one way, on every connection; to be changed at any time.

    `delay`: seconds that each byte is late, throughput unharmed. `bytes_per_second`: of each connection.
    `hold` keeps bytes until `release`, as a broken link does that comes back before anybody noticed. `drop` loses them
    while the connection looks alive; a connection that lost bytes is cut by `release`, for its stream makes no sense.
    """

    delay: float = 0.0
    bytes_per_second: float | None = None
    passed: int = 0
    dropped: int = 0
    _dropping: bool = False
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _spoilt: set[Connection] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def drop(self) -> None:
        self._dropping = True
        self._open.set()

    def release(self) -> None:
        self._dropping = False
        self._open.set()
        for connection in self._spoilt:
            connection.cut()
        self._spoilt.clear()

    async def carry(self, connection: Connection, arrived: float, chunk: bytes) -> bytes:
        """Waits as long as the chunk takes on its way; what arrives of it."""
        if self.bytes_per_second:
            await asyncio.sleep(len(chunk) / self.bytes_per_second)
        await asyncio.sleep(max(0.0, arrived + self.delay - asyncio.get_running_loop().time()))
        await self._open.wait()
        if self._dropping or connection in self._spoilt:
            self.dropped += len(chunk)
            self._spoilt.add(connection)
            return b""
        self.passed += len(chunk)
        return chunk


class Connection:
    """One client's connection and ours to the target."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._writers = (client, server)

    def cut(self) -> None:
        """Both ends see a reset, not an orderly end."""
        for writer in self._writers:
            raw: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # closed already
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class Proxy:
    """Carries connections from `port` (0: a free one) to `target_port`, both on loopback, while the `async with` runs.

    `up` is towards the target, `down` from it. When one side ends a connection, the other is ended too.
    """

    host = "127.0.0.1"

    def __init__(self, target_port: int, port: int = 0) -> None:
        self.port = port
        self.up = Direction()
        self.down = Direction()
        self.accepted = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def accept(self) -> None:
        """Take connections again after `refuse`."""
        if self._server is None:
            self._server = await asyncio.start_server(self._admit, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """New connections are refused; those that exist go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Reset all connections there are."""
        for connection in self._connections:
            connection.cut()

    def heal(self) -> None:
        """Bytes flow again, at once and unlimited."""
        for direction in (self.up, self.down):
            direction.delay, direction.bytes_per_second = 0.0, None
            direction.release()

    def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection(self.host, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        connection = Connection(writer, target_writer)
        self._connections.add(connection)
        queues = asyncio.Queue[_Chunk](CHUNKS_UNDERWAY), asyncio.Queue[_Chunk](CHUNKS_UNDERWAY)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_read(reader, queues[0]))
                ways.create_task(_write(queues[0], self.up, connection, target_writer))
                ways.create_task(_read(target_reader, queues[1]))
                ways.create_task(_write(queues[1], self.down, connection, writer))
        except* (_Ended, OSError):
            pass
        finally:
            self._connections.discard(connection)
            connection.close()


_Chunk = tuple[float, bytes]


class _Ended(Exception):
    """One side has said all it had to say, and the other has heard it."""


async def _read(reader: asyncio.StreamReader, queue: asyncio.Queue[_Chunk]) -> None:
    chunk = b"?"
    while chunk:
        chunk = await reader.read(CHUNK)
        await queue.put((asyncio.get_running_loop().time(), chunk))


async def _write(
    queue: asyncio.Queue[_Chunk], direction: Direction, connection: Connection, writer: asyncio.StreamWriter
) -> None:
    while True:
        arrived, chunk = await queue.get()
        if not chunk:
            raise _Ended
        writer.write(await direction.carry(connection, arrived, chunk))
        await writer.drain()
