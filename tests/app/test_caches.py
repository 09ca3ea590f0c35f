"""The caches that the settings want, put together."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from streamer.app.caches import open_caches
from streamer.errors import MissingExtra
from streamer.settings import Settings, load_settings
from tests.adapters.sqlite.cached_entries import SPACE, entries, found_numbers, key_of
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio


def settings(**values: Any) -> Settings:
    return load_settings(None, {}, {f"cache.{name}": value for name, value in values.items()})


async def find(wanted: Settings, numbers: range) -> list[int]:
    async with open_caches(wanted, SPACE) as caches:
        assert caches.together
        assert caches.state() is None
        return found_numbers(await caches.together.get_many([key_of(number) for number in numbers]), numbers)


async def test_a_file_in_front_of_a_server(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server_alone = settings(url=server.url, ttl_seconds=60, memory_bytes=0)
        async with open_caches(server_alone, SPACE) as caches:
            assert caches.together is caches.server
            assert caches.server
            await caches.server.put_many(entries(range(5)))
        file = str(tmp_path / "near.sqlite")
        assert await find(settings(url=server.url, path=file), range(9)) == [0, 1, 2, 3, 4]
        assert await find(settings(path=file), range(9)) == [0, 1, 2, 3, 4]
        server.kill()
        async with open_caches(settings(url=server.url, path=file), SPACE) as caches:
            assert caches.together
            assert len(await caches.together.get_many([key_of(number) for number in range(9)])) == 5
            assert (caches.state() or "").startswith(f"{server.url}: ")
    async with open_caches(settings(enabled=False), SPACE) as caches:
        assert caches.together is None


@pytest.mark.parametrize(("ttl_seconds", "remembered"), [(None, 60.0), (20.0, 2.0)])
async def test_memory_in_front_of_a_file(tmp_path: Path, ttl_seconds: float | None, remembered: float) -> None:
    wanted = {"path": str(tmp_path / "cache.sqlite"), "ttl_seconds": ttl_seconds}
    keys = [key_of(number) for number in range(5)]
    async with open_caches(settings(**wanted), SPACE) as caches:
        assert caches.together
        assert caches.file
        assert caches.recent
        await caches.together.put_many(entries(range(5)))
        assert (await caches.file.get_many(keys)).keys() == set(keys)
        await caches.file.clear()
        assert (await caches.together.get_many(keys)).keys() == set(keys)
        assert caches.recent.statistics().hits_total == 5
        assert not caches.recent.find(keys, anyio.current_time() + remembered)
    async with open_caches(settings(**wanted, memory_bytes=0), SPACE) as caches:
        assert caches.together is caches.file


@asynccontextmanager
async def tls_in_front_of(server: RedisServer, folder: Path) -> AsyncIterator[tuple[int, Path]]:
    """A port that speaks TLS, and the certificate to trust."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {key} -out {certificate}"
    await anyio.run_process(command.split())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as front:
        yield front.sockets[0].getsockname()[1], certificate


async def test_tls_is_checked_against_the_authority_that_is_named(tmp_path: Path) -> None:
    with redis_server(tmp_path / "server", requirepass="s3cret") as server:
        async with tls_in_front_of(server, tmp_path) as (port, certificate):
            url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
            async with open_caches(settings(url=url, password="s3cret"), SPACE) as caches:
                assert caches.server
                await caches.server.put_many(entries([1]))
                assert caches.state() is None
            async with open_caches(settings(url=f"rediss://127.0.0.1:{port}/0", password="s3cret"), SPACE) as caches:
                assert "CERTIFICATE_VERIFY_FAILED" in (caches.state() or "")
        assert server.client.dbsize() == 2


@pytest.mark.slow
def test_without_the_extra_a_server_is_refused_and_a_file_is_not() -> None:
    program = """
import asyncio, sys
sys.modules["redis"] = None
from streamer.app import worker
from streamer.app.caches import open_caches
from streamer.settings import load_settings
from tests.adapters.sqlite.cached_entries import SPACE

async def main():
    async with open_caches(load_settings(None, {}, {"cache.url": "redis://cache"}), SPACE):
        pass

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(str(MissingExtra("redis", "redis")))
