"""The vector caches that the settings want: a file, a server, or one before the other; memory before both."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamer.adapters.sqlite import SqliteVectorCache
from streamer.core.vectors import Space
from streamer.embedding.recent_vectors import RecentVectors
from streamer.embedding.tiered import RecentFirst, Tier, TieredCache
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.adapters.redis.cache import RedisVectorCache
    from streamer.adapters.redis.link import RedisLink

RECENT_SECONDS: Final = 60.0  # in memory, whatever becomes of it in the cache meanwhile
RECENT_SHARE: Final = 0.1  # of `cache.ttl_seconds`, if that is less


@dataclass(frozen=True, slots=True)
class Caches:
    """Those that are open, and what they are to those who embed."""

    file: SqliteVectorCache | None = None
    server: RedisVectorCache | None = None
    link: RedisLink | None = None
    recent: RecentVectors | None = None

    @property
    def together(self) -> Tier | None:
        kept = TieredCache(self.file, self.server) if self.file and self.server else self.file or self.server
        return RecentFirst(self.recent, kept) if self.recent is not None and kept else kept

    def state(self) -> str | None:
        """Why one of them is not used, or not written, just now."""
        states = [cache.state() for cache in (self.file, self.server) if cache]
        return "; ".join(state for state in states if state) or None


@asynccontextmanager
async def open_caches(settings: Settings, space: Space) -> AsyncIterator[Caches]:
    """None of them with `cache.enabled = false`. Raises ConfigurationError when the server refuses us."""
    cache = settings.cache
    if not cache.enabled:
        yield Caches()
        return
    async with AsyncExitStack() as stack:
        file = server = link = None
        if cache.path is not None:
            file = await stack.enter_async_context(
                SqliteVectorCache.open(cache.path, space, ttl_seconds=cache.ttl_seconds, max_bytes=cache.max_bytes)
            )
        if cache.url is not None:
            link = await stack.enter_async_context(open_link(settings))
            from streamer.adapters.redis.cache import RedisVectorCache

            server = await stack.enter_async_context(RedisVectorCache.open(link, space, ttl_seconds=cache.ttl_seconds))
        recent = None
        if cache.memory_bytes:
            seconds = min(RECENT_SECONDS, RECENT_SHARE * (cache.ttl_seconds or math.inf))
            recent = RecentVectors(dimensions=space.dimensions, max_bytes=cache.memory_bytes, seconds=seconds)
        yield Caches(file, server, link, recent)


@asynccontextmanager
async def open_link(settings: Settings) -> AsyncIterator[RedisLink]:
    """The way to the server of `cache.url`. Raises MissingExtra, and ConfigurationError when the server refuses us."""
    from streamer.adapters.redis.link import RedisLink

    cache = settings.cache
    if cache.url is None:
        raise AssertionError("there is no cache.url. This is a bug.")
    password = cache.password.get_secret_value() if cache.password else None
    async with RedisLink.open(cache.url, password=password) as link:
        yield link


@asynccontextmanager
async def open_named_file(settings: Settings, space: Space) -> AsyncIterator[SqliteVectorCache]:
    """The very file that the settings name; ConfigurationError while it is the own file of a worker."""
    cache = settings.cache
    if cache.path is None:
        raise AssertionError("there is no cache.path. This is a bug.")
    async with SqliteVectorCache.open(
        cache.path, space, ttl_seconds=cache.ttl_seconds, max_bytes=cache.max_bytes, next_if_taken=False
    ) as opened:
        yield opened
