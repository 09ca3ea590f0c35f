"""What a cache promises to the processes that share it: a file, a server, a cluster, or a file in front of a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import anyio
import numpy as np
import pytest

from streamer.adapters.redis.cache import RedisVectorCache
from streamer.adapters.redis.link import RedisLink
from streamer.core.vectors import Space
from streamer.embedding.cached import CachedEmbedder
from streamer.embedding.tiered import Tier, TieredCache
from streamer.protocols import Embedding
from streamer.testing import SPACE as HASH_SPACE
from streamer.testing import HashEmbedder, vector_of
from tests.adapters.sqlite.cached_entries import SPACE, entries, found_numbers, key_of, opened
from tests.support.redis_server import RedisServer, redis_cluster, redis_server

pytestmark = pytest.mark.anyio

Opening: TypeAlias = Callable[[Space], AbstractAsyncContextManager[Tier]]


@asynccontextmanager
async def on_server(url: str, space: Space) -> AsyncIterator[RedisVectorCache]:
    async with RedisLink.open(url) as link, RedisVectorCache.open(link, space, ttl_seconds=3600) as cache:
        yield cache


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture(params=["file", "server", "cluster", "file and server"])
def open_cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opening]:
    """Opens what a process opens; each call is another process."""
    if request.param == "file":
        yield lambda space: opened(tmp_path / "cache.sqlite", space)
    elif request.param == "server":
        with redis_server(tmp_path) as server:
            yield lambda space: on_server(server.url, space)
    elif request.param == "cluster":
        servers: list[RedisServer] = request.getfixturevalue("cluster")
        yield lambda space: on_server(servers[0].url, space)
        for server in servers:
            server.client.flushall()
    else:
        with redis_server(tmp_path) as server:
            machines = iter(range(100))  # each with a file of its own

            @asynccontextmanager
            async def both(space: Space) -> AsyncIterator[Tier]:
                path = tmp_path / f"machine-{next(machines)}.sqlite"
                async with opened(path, space) as near, on_server(server.url, space) as far:
                    yield TieredCache(near, far)

            yield both


async def find(cache: Tier, numbers: range) -> list[int]:
    return found_numbers(await cache.get_many([key_of(number) for number in numbers]), numbers)


async def test_what_one_process_stores_the_others_find(open_cache: Opening) -> None:
    async with open_cache(SPACE) as first, open_cache(SPACE) as second:
        assert await find(first, range(10)) == []
        await first.put_many(entries(range(700)))
        await first.put_many({})
        assert await first.get_many([]) == {}
        assert await find(second, range(600, 800)) == list(range(600, 700))
        assert await find(second, range(700)) == list(range(700))
        twice = [key_of(1), key_of(2), key_of(1)]
        assert set(await second.get_many(twice)) == set(twice)
        await second.put_many(entries(range(5)))  # again: no harm
        assert await find(first, range(5)) == list(range(5))
    async with open_cache(SPACE) as later:
        assert await find(later, range(3)) == [0, 1, 2]


async def test_another_space_finds_nothing(open_cache: Opening) -> None:
    other = replace(SPACE, revision="b")
    async with open_cache(SPACE) as cache, open_cache(other) as stranger:
        await cache.put_many(entries(range(20)))
        keys = [key_of(number) for number in range(20)]
        assert await stranger.get_many(keys) == {}


async def test_a_key_is_claimed_by_one_at_a_time(open_cache: Opening) -> None:
    keys = [key_of(number) for number in range(300)]
    async with open_cache(SPACE) as first, open_cache(SPACE) as second:
        assert await first.claim(keys[:200]) == keys[:200]
        assert await second.claim(keys[100:]) == keys[200:]
        first.unclaim(keys[:150])
        second.unclaim(keys[:150])  # not its own: no harm
        with anyio.fail_after(10):
            claimed: set[bytes] = set()
            while len(claimed) < 150:
                claimed.update(await second.claim(keys[:200]))
        assert claimed == set(keys[:150])
    async with open_cache(SPACE) as third:  # whoever ends lets go
        assert await third.claim(keys) == keys


async def test_processes_that_want_the_same_texts_at_once_pay_for_each_once(open_cache: Opening) -> None:
    texts = [f"text {number}" for number in range(60)]
    inners = [HashEmbedder() for _ in range(3)]
    fresh: Counter[str] = Counter()

    async def one(inner: HashEmbedder, turn: int) -> None:
        async with open_cache(HASH_SPACE) as cache:
            embedder = CachedEmbedder(inner, cache, cache)
            for start in range(0, 60, 20):
                wanted = texts[start:] + texts[:start] if turn % 2 else texts[start : start + 20]
                for text, result in zip(wanted, await embedder.embed(wanted, "document"), strict=True):
                    assert isinstance(result, Embedding)
                    np.testing.assert_array_equal(result.vector, vector_of(text))
                    fresh[text] += not result.cache_hit

    async with anyio.create_task_group() as tasks:
        for turn, inner in enumerate(inners):
            tasks.start_soon(one, inner, turn)
    assert sum((Counter(inner.seen) for inner in inners), Counter()) == Counter(texts)
    assert fresh == Counter(texts)
