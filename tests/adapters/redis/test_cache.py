"""What the shared cache does beyond its contract: values, expiry, and how the server fares."""

# ruff: noqa: ASYNC110 - a server tells nobody what happens to it

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from streamer.adapters.redis import entries as values
from streamer.adapters.redis import link
from streamer.adapters.redis.cache import RedisVectorCache, clear, contents_of
from streamer.adapters.redis.link import RedisLink
from streamer.adapters.redis.quota import RedisQuota
from streamer.adapters.redis.spend import RedisSpendLedger
from streamer.adapters.redis.workers import Workers
from streamer.errors import ConfigurationError, Unreachable
from streamer.protocols import Ceiling, Cost
from tests.adapters.sqlite.cached_entries import SPACE, embedding_of, entries, find, key_of
from tests.support.lateness import timed
from tests.support.redis_server import RedisServer, redis_cluster, redis_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def linked(url: str, **options: Any) -> AbstractAsyncContextManager[RedisLink]:
    return RedisLink.open(url, **{"retry_seconds": 0.02, **options})


@asynccontextmanager
async def cache_on(
    url: str, *, ttl_seconds: float | None = None, lease_seconds: float = 10.0, **options: Any
) -> AsyncIterator[RedisVectorCache]:
    async with (
        linked(url, **options) as opened,
        RedisVectorCache.open(opened, SPACE, ttl_seconds=ttl_seconds, lease_seconds=lease_seconds) as cache,
    ):
        yield cache


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(20):
        while not await condition():
            await anyio.sleep(0.01)


async def test_a_value_is_taken_only_for_the_key_that_it_was_stored_under() -> None:
    key = key_of(1)
    stored = values.encode(key, embedding_of(key))
    hit = values.decode(key, stored, SPACE.dimensions)
    assert hit
    assert np.array_equal(hit.vector, embedding_of(key).vector)
    assert (hit.tokens, hit.truncated, hit.cache_hit) == (key[0], key[1] % 2 == 0, True)
    assert values.decode(key_of(2), stored, SPACE.dimensions) is None
    assert values.decode(key, stored[:-4], SPACE.dimensions) is None
    assert values.decode(key, b"", SPACE.dimensions) is None
    for place in range(len(stored)):
        if place not in (2, 3):  # padding
            assert (
                values.decode(key, stored[:place] + bytes([stored[place] ^ 64]) + stored[place + 1 :], SPACE.dimensions)
                is None
            )


async def test_a_damaged_value_is_a_miss(server: RedisServer) -> None:
    async with cache_on(server.url) as cache:
        await cache.put_many(entries([1, 2]))
        server.client.set(values.vector_key(SPACE.id, key_of(1)), b"something else")
        assert await find(cache, [1, 2]) == [2]
        assert cache.statistics().damaged_total == 1


async def test_entries_expire_by_the_clock_of_the_server(server: RedisServer) -> None:
    async with cache_on(server.url, ttl_seconds=3600) as cache:
        await cache.put_many(entries([1]))
        assert 3_590_000 < server.client.pttl(values.vector_key(SPACE.id, key_of(1))) <= 3_600_000
    async with cache_on(server.url, ttl_seconds=0.05) as cache:
        await cache.put_many(entries([1]))

        async def is_gone() -> bool:
            return await find(cache, [1]) == []

        await until(is_gone)
    async with cache_on(server.url) as cache:
        await cache.put_many(entries([1]))
        assert server.client.pttl(values.vector_key(SPACE.id, key_of(1))) == -1


@pytest.mark.slow
async def test_counting_and_clearing_see_what_is_streamers_alone(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as servers:
        servers[0].client.execute_command("SET", "mine{06S}", "1")  # a name of a slot of the first server
        async with cache_on(servers[1].url) as cache, linked(servers[0].url) as other:
            await cache.put_many(entries(range(300)))
            contents = await contents_of(other)
            assert contents.entries == 300
            assert contents.spaces == {f"{SPACE.id} fake fake-1": 300}
            assert 300 * 4 * 96 < contents.bytes < 300 * 1000
            assert {bool(server.client.dbsize() > 100) for server in servers} == {True}
            await clear(other)
            assert await find(cache, range(300)) == []
            assert (await contents_of(other)).entries == 0
        assert servers[0].client.get("mine{06S}") == b"1"


async def test_a_server_that_goes_away_is_done_without_and_found_again(
    server: RedisServer, logs: list[MutableMapping[str, Any]]
) -> None:
    async with cache_on(server.url) as cache:
        await cache.put_many(entries([1]))
        server.kill()
        assert await find(cache, [1]) == []
        await cache.put_many(entries([2, 3]))
        keys = [key_of(number) for number in range(5)]
        assert await cache.claim(keys) == keys
        cache.unclaim(keys)
        state = cache.state()
        assert state is not None
        assert state.startswith(f"{server.url}: ")
        assert not cache.statistics().available
        server.start()

        async def is_back() -> bool:
            return cache.state() is None

        await until(is_back)
        await cache.put_many(entries([4]))
        assert await find(cache, [1, 2, 3, 4]) == [4]
        statistics = cache.statistics()
        assert (statistics.stored_total, statistics.dropped_total, statistics.faults_total) == (2, 2, 1)
    assert [line["event"] for line in logs] == ["shared cache unavailable", "shared cache available again"]


async def test_a_server_that_is_not_there_at_the_start_is_found_later(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    async with cache_on(server.url) as cache:
        assert await find(cache, [1]) == []
        await cache.put_many(entries([1]))
        assert cache.state() is not None
        server.start()

        async def is_stored() -> bool:
            await cache.put_many(entries([1]))
            return await find(cache, [1]) == [1]

        await until(is_stored)
    server.close()


async def test_a_server_that_hangs_costs_one_caller_its_patience_and_the_next_ones_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cache_on(server.url, retry_seconds=60.0) as cache:
        await cache.put_many(entries([1]))
        opened = cache._link
        server.send_signal(signal.SIGSTOP)
        async with timed() as took:
            assert await opened.read(lambda client: client.do("PING"), give_up_after=0.2) is None
            assert await find(cache, [1]) == []
            await cache.put_many(entries([1]))
        assert took.seconds < 1.5
        assert cache.state() == f"{server.url}: no answer within {link.PATIENCE_SECONDS:g} s"
        server.send_signal(signal.SIGCONT)


async def test_a_caller_that_is_cancelled_leaves_no_answer_to_the_next_one(server: RedisServer) -> None:
    async with cache_on(server.url) as cache:
        await cache.put_many(entries(range(100)))
        server.send_signal(signal.SIGSTOP)
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(find, cache, range(number, number + 50))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        server.send_signal(signal.SIGCONT)
        for number in range(50):
            assert await find(cache, range(number, number + 10)) == list(range(number, number + 10))
        assert cache.statistics().damaged_total == 0


async def test_a_full_server_is_read_and_not_written(tmp_path: Path, logs: list[MutableMapping[str, Any]]) -> None:
    with redis_server(tmp_path, maxmemory_policy="noeviction") as server:
        async with cache_on(server.url) as cache:
            await cache.put_many(entries([1]))
            server.client.config_set("maxmemory", 1)
            await cache.put_many(entries([2]))
            keys = [key_of(2)]
            assert await cache.claim(keys) == keys
            assert await find(cache, [1, 2]) == [1]
            state = cache.state() or ""
            assert "not writable" in state
            assert "used memory" in state
            assert cache.statistics().available
            assert cache.statistics().dropped_total == 1
            server.client.config_set("maxmemory", 0)
            cache._link._write_again_at = 0.0
            await cache.put_many(entries([2]))
            assert cache.state() is None
    assert [line["event"] for line in logs] == ["shared cache unavailable", "shared cache available again"]


async def test_a_server_that_refuses_us_is_told_at_once_and_without_the_password(tmp_path: Path) -> None:
    with redis_server(tmp_path, requirepass="s3cret-word") as server:
        async with cache_on(server.url) as cache:
            await cache.put_many(entries([1]))
        async with cache_on(server.url.replace(":s3cret-word@", ""), password="s3cret-word") as cache:
            assert await find(cache, [1]) == [1]
        for url in (server.url.replace("s3cret-word", "another-word"), server.url.replace(":s3cret-word@", "")):
            with pytest.raises(ConfigurationError, match=r"cache\.url = redis://") as caught:
                async with linked(url):
                    pass
            assert "word" not in str(caught.value).replace("password", "")
    async with linked("redis://:s3cret-word@127.0.0.1:1/0") as gone:
        with pytest.raises(Unreachable, match=r"cache\.url = redis://\*\*\*@127\.0\.0\.1:1/0: Error 111"):
            await contents_of(gone)


async def test_an_account_with_few_rights_is_enough(tmp_path: Path) -> None:
    """Those that docs/scaling.md names."""
    page = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()
    [rule] = re.findall(r"^ACL SETUSER (.+)$", page, re.MULTILINE)
    with redis_server(tmp_path) as server:
        server.client.execute_command("ACL", "SETUSER", *rule.replace(">...", ">s3cret").split())
        async with linked(server.url.replace("redis://", "redis://streamer@"), password="s3cret") as opened:
            async with (
                RedisVectorCache.open(opened, SPACE, ttl_seconds=60) as cache,
                Workers.open(opened, "openai") as workers,
                RedisQuota.open(opened, "openai", workers) as quota,
            ):
                keys = [key_of(1)]
                assert await cache.claim(keys) == keys
                await cache.put_many(entries([1]))
                cache.unclaim(keys)
                assert await find(cache, [1]) == [1]
                assert await quota.reserve((1, 1, 1), (60.0, None, None))
                ledger = RedisSpendLedger(opened, "openai", workers)
                assert await ledger.reserve(Cost(1), {"2026-11-28": Ceiling()})
                assert await ledger.spent(["2026-11-28"]) == {"2026-11-28": Cost(1)}
                assert (await contents_of(opened)).entries == 1
                await clear(opened)
            assert opened.state() is None
            assert await opened.read(lambda client: client.do("GET", "somebody else's")) is None
            assert "no permissions" in (opened.state() or "")
