from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from anyio.abc import SocketStream

from tests.support.proxy import Proxy
from tests.support.stages import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1], free_port()) as proxy:
        yield proxy


async def connect(proxy: Proxy) -> SocketStream:
    return await anyio.connect_tcp(proxy.host, proxy.port)


async def ask(stream: SocketStream, text: bytes) -> bytes:
    await stream.send(text)
    answer = b""
    while len(answer) < len(text):
        answer += await stream.receive()
    return answer


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - the proxy tells nobody
            await anyio.sleep(0.01)


async def silent(stream: SocketStream) -> bool:
    with anyio.move_on_after(0.1):
        await stream.receive()
        return False
    return True


async def test_bytes_pass_in_order(proxy: Proxy) -> None:
    text = struct.pack(">250000I", *range(250_000))
    received = bytearray()
    async with await connect(proxy) as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(stream.send, text)
        while len(received) < len(text):
            received += await stream.receive()
    assert received == text
    assert (proxy.up.passed, proxy.down.passed, proxy.accepted) == (len(text), len(text), 1)


async def test_cut_is_a_reset_and_the_next_connection_works(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        assert await ask(stream, b"a") == b"a"
        proxy.cut()
        with anyio.fail_after(10), pytest.raises(anyio.BrokenResourceError):  # an orderly end would be EndOfStream
            await stream.receive()
    async with await connect(proxy) as stream:
        assert await ask(stream, b"b") == b"b"


async def test_refusing_leaves_what_is_connected(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await ask(stream, b"a")
        proxy.refuse()
        with pytest.raises(OSError, match="connect"):
            await connect(proxy)
        assert await ask(stream, b"b") == b"b"
    port = proxy.port
    await proxy.accept()
    assert proxy.port == port
    async with await connect(proxy) as stream:
        assert await ask(stream, b"c") == b"c"


@pytest.mark.parametrize("way", ["up", "down"])
async def test_held_bytes_arrive_later(proxy: Proxy, way: str) -> None:
    async with await connect(proxy) as stream:
        getattr(proxy, way).hold()
        await stream.send(b"late")
        if way == "down":
            await until(lambda: proxy.up.passed == 4)
        assert await silent(stream)
        assert proxy.up.passed == (0 if way == "up" else 4)
        proxy.heal()
        with anyio.fail_after(10):
            assert await stream.receive() == b"late"


@pytest.mark.parametrize("way", ["up", "down"])
async def test_dropped_bytes_never_arrive_and_the_connection_ends_with_the_fault(proxy: Proxy, way: str) -> None:
    async with await connect(proxy) as spoilt, await connect(proxy) as idle:
        assert await ask(idle, b"before") == b"before"
        getattr(proxy, way).drop()
        await spoilt.send(b"lost")
        await until(lambda: getattr(proxy, way).dropped == 4)
        assert await silent(spoilt), "half-open: neither an answer nor an end"
        proxy.heal()
        with anyio.fail_after(10), pytest.raises(anyio.BrokenResourceError):
            await spoilt.receive()
        assert await ask(idle, b"after") == b"after", "it has lost nothing"


@pytest.mark.slow
async def test_delay_adds_up_for_a_round_trip_but_not_for_every_byte(proxy: Proxy) -> None:
    proxy.up.delay = proxy.down.delay = 0.25
    async with await connect(proxy) as stream:
        start = time.monotonic()
        assert await ask(stream, b"x") == b"x"
        assert time.monotonic() - start >= 0.5
        left = 8_000_000
        # One chunk after another would take 122 delays each way, a minute.
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.send, b"x" * left)
                while left:
                    left -= len(await stream.receive())


async def test_throttled_bytes_come_at_the_rate(proxy: Proxy) -> None:
    proxy.down.bytes_per_second = 100_000
    async with await connect(proxy) as stream:
        start = time.monotonic()
        await ask(stream, b"x" * 20_000)
        assert time.monotonic() - start >= 0.2


async def test_a_dead_target_is_an_end(proxy: Proxy) -> None:
    async with Proxy(target_port=1) as dead, await connect(dead) as stream:
        with anyio.fail_after(10), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()


async def test_the_end_of_one_side_is_the_end_of_the_other(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await ask(stream, b"x")
        await stream.send_eof()
        with anyio.fail_after(10), pytest.raises(anyio.EndOfStream):
            await stream.receive()
