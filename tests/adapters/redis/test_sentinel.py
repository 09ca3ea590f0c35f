"""A server that a sentinel names, and a failover to its replica."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import pytest

from streamer.adapters.redis.cache import RedisVectorCache
from streamer.adapters.redis.link import RedisLink
from streamer.adapters.redis.sentinel import Sentinels, sentinels_of
from streamer.adapters.redis.spend import RedisSpendLedger
from streamer.adapters.redis.workers import Workers
from streamer.errors import ConfigurationError
from streamer.protocols import Ceiling, Cost
from tests.adapters.sqlite.cached_entries import SPACE, entries, find
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio

DAY = "2026-11-28"


def test_an_address_has_the_sentinels_the_service_and_what_the_server_is_told() -> None:
    assert sentinels_of("redis+sentinel://one:1,two,[::1]:3/main/7") == Sentinels(
        (("one", 1), ("two", 26379), ("::1", 3)), "main", {"db": 7}
    )
    assert sentinels_of("rediss+sentinel://user:p%40ss@one/main?ssl_ca_certs=/ca.pem") == Sentinels(
        (("one", 26379),), "main", {"username": "user", "password": "p@ss", "ssl": True, "ssl_ca_certs": "/ca.pem"}
    )


@dataclass(frozen=True, slots=True)
class Watched:
    """A server with a replica, and the sentinel that would make the replica the server."""

    server: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/main/0"


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    """Once the sentinel knows that the replica may take the server's place."""
    with redis_server(folder / "server") as server, redis_server(folder / "replica") as replica:
        replica.client.replicaof("127.0.0.1", server.port)
        await until(lambda: bool(replica.client.info("replication")["master_link_status"] == "up"))
        sentinel = RedisServer(folder / "sentinel")
        try:
            sentinel.start_as_sentinel("main", server.port)
            found: Callable[[], list[dict[str, object]]] = partial(sentinel.client.sentinel_slaves, "main")
            await until(lambda: [each["master-link-status"] for each in found()] == ["ok"])
            yield Watched(server, replica, sentinel)
        finally:
            sentinel.close()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - a server tells nobody what happens to it
            await anyio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_failover_is_an_outage_and_nothing_that_was_copied_is_lost(tmp_path: Path, how: signal.Signals) -> None:
    async with (
        watched(tmp_path) as those,
        RedisLink.open(those.url, retry_seconds=0.02) as link,
        RedisVectorCache.open(link, SPACE, ttl_seconds=None) as cache,
        Workers.open(link, "openai") as workers,
    ):
        ledger = RedisSpendLedger(link, "openai", workers)
        await cache.put_many(entries([1, 2]))
        assert await ledger.reserve(Cost(40), {DAY: Ceiling(tokens=100)})
        assert those.server.client.wait(1, 20_000) == 1, "the replica has them"
        those.server.send_signal(how)
        seen: list[list[int]] = []
        with anyio.fail_after(60):
            while not seen or seen[-1] != [1, 2, 3]:
                await cache.put_many(entries([3]))
                seen.append(await find(cache, [1, 2, 3]))
                await anyio.sleep(0.01)  # neither waits while the server is away
        assert all(set(some) <= {1, 2, 3} for some in seen), "never an error, at worst nothing"
        assert [] in seen
        assert link.faults > 0
        assert cache.state() is None
        assert await ledger.reserve(Cost(60), {DAY: Ceiling(tokens=100)})
        assert await ledger.spent([DAY]) == {DAY: Cost(100)}
        assert those.replica.client.info("replication")["role"] == "master"


async def test_a_service_that_no_sentinel_knows_is_an_outage_and_a_wrong_password_is_refused(tmp_path: Path) -> None:
    with redis_server(tmp_path / "server", requirepass="s3cret") as server:
        sentinel = RedisServer(tmp_path / "sentinel")
        try:
            sentinel.start_as_sentinel("main", server.port, password="s3cret")
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main/0"
            async with RedisLink.open(url, password="s3cret") as link:
                assert await link.read(lambda client: client.do("PING"))
            with pytest.raises(ConfigurationError, match=r"cache\.url = redis\+sentinel://127"):
                async with RedisLink.open(url, password="wrong"):
                    pass
            async with RedisLink.open(url.replace("/main/", "/other/"), password="s3cret") as link:
                assert "No master found for 'other'" in (link.state() or "")
        finally:
            sentinel.close()
