"""Leases on texts: renewed by the living, ended by the death of their process."""

# ruff: noqa: ASYNC110 - a server tells nobody what happens to it

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from streamer.adapters.redis.cache import RedisVectorCache
from streamer.adapters.redis.claims import CLAIMS
from streamer.adapters.redis.link import RedisLink
from streamer.core.vectors import cache_key
from streamer.embedding.cached import CachedEmbedder
from streamer.testing import SPACE, HashEmbedder
from tests.adapters.sqlite.cached_entries import key_of
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@asynccontextmanager
async def cache_on(server: RedisServer, lease_seconds: float = 10.0) -> AsyncIterator[RedisVectorCache]:
    async with (
        RedisLink.open(server.url, retry_seconds=0.02) as link,
        RedisVectorCache.open(link, SPACE, ttl_seconds=None, lease_seconds=lease_seconds) as cache,
    ):
        yield cache


def name_of(key: bytes) -> bytes:
    return CLAIMS + SPACE.id.encode() + b":" + key.hex().encode()


@pytest.mark.slow
async def test_a_claim_lives_as_long_as_its_process_and_no_longer(server: RedisServer) -> None:
    keys = [key_of(number) for number in range(4)]
    async with cache_on(server, lease_seconds=0.6) as cache:
        assert await cache.claim(keys[:3]) == keys[:3]
        with anyio.fail_after(20):
            for _ in range(3):  # it would have ended without a renewal in between
                low = server.client.pttl(name_of(keys[0]))
                while server.client.pttl(name_of(keys[0])) <= low:
                    low = server.client.pttl(name_of(keys[0]))
                    await anyio.sleep(0.01)
        server.kill()
        server.start()  # with nothing in it
        with anyio.fail_after(20):
            while server.client.exists(*map(name_of, keys)) < 3:
                await anyio.sleep(0.01)
        cache.unclaim(keys)
        assert await cache.claim(keys[3:]) == keys[3:]
    assert server.client.keys(CLAIMS + b"*") == []


async def test_a_text_whose_process_died_is_taken_over_when_its_lease_ends(server: RedisServer) -> None:
    claimed = name_of(cache_key("a", "document"))
    server.client.set(claimed, "another process")
    inner = HashEmbedder()
    async with cache_on(server) as cache, anyio.create_task_group() as tasks:
        tasks.start_soon(CachedEmbedder(inner, cache, cache).embed, ["a", "b"], "document")
        with anyio.fail_after(20):
            while "b" not in inner.seen:
                await anyio.sleep(0.01)
            cache.unclaim([cache_key("a", "document")])  # not its own: no harm
            await anyio.sleep(0.1)
            assert server.client.get(claimed) == b"another process"
            assert inner.seen == {"b": 1}
            server.client.pexpire(claimed, 1)
            while "a" not in inner.seen:
                await anyio.sleep(0.01)


async def test_a_claim_that_is_cancelled_half_way_is_let_go(server: RedisServer) -> None:
    keys = [key_of(number) for number in range(50)]
    async with cache_on(server) as cache:
        server.send_signal(signal.SIGSTOP)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cache.claim, keys)
            await anyio.wait_all_tasks_blocked()  # sent, and not answered
            tasks.cancel_scope.cancel()
        server.send_signal(signal.SIGCONT)
        with anyio.fail_after(10):
            while cache._claims._releases:
                await anyio.sleep(0.01)
        assert server.client.keys(CLAIMS + b"*") == []
        assert await cache.claim(keys) == keys


async def test_a_claim_that_another_process_has_by_now_is_left_to_it(server: RedisServer) -> None:
    """As after a pause of this process that was longer than its lease."""
    key = key_of(1)
    async with cache_on(server) as cache:
        assert await cache.claim([key]) == [key]
        server.client.set(name_of(key), "another process")
        cache.unclaim([key])
        with anyio.fail_after(10):
            while cache._claims._releases:
                await anyio.sleep(0.01)
        assert server.client.get(name_of(key)) == b"another process"
