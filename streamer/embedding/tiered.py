"""A cache in front of another one: of this machine before what machines share, memory of this process before both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint

from streamer.embedding.recent_vectors import RecentVectors
from streamer.protocols import Claims, Embedding, VectorCache


class Tier(VectorCache, Claims, Protocol):
    """A cache whose users claim what they ask for."""


class TieredCache:
    """A VectorCache and Claims. What is found in the far one is kept in the near one; what is stored goes to both.

    With the far one away, the near one goes on by itself, and its claims still hold between its own users.
    """

    def __init__(self, near: Tier, far: Tier) -> None:
        self._near = near
        self._far = far

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Embedding]:
        found = await self._near.get_many(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        fetched = await self._far.get_many(missing) if missing else {}
        if fetched:
            await self._near.put_many(fetched)
        return {**found, **fetched}

    async def put_many(self, entries: Mapping[bytes, Embedding]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._near.put_many, entries)
            tasks.start_soon(self._far.put_many, entries)

    async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        near = await self._near.claim(keys)
        try:
            far = await self._far.claim(near) if near else near
        except BaseException:
            self._near.unclaim(near)
            raise
        claimed = set(far)
        self._near.unclaim([key for key in near if key not in claimed])
        return far

    def unclaim(self, keys: Sequence[bytes]) -> None:
        self._near.unclaim(keys)
        self._far.unclaim(keys)


class RecentFirst:
    """A VectorCache and Claims: what was used last is found in memory, everything in `cache`."""

    def __init__(self, recent: RecentVectors, cache: Tier) -> None:
        self._recent = recent
        self._cache = cache

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Embedding]:
        now = anyio.current_time()  # before it is read: from then on it may be deleted
        found = self._recent.find(keys, now)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if not missing:
            await checkpoint()  # others have their turn
            return found
        fetched = await self._cache.get_many(missing)
        self._recent.add(fetched, now)
        return {**found, **fetched}

    async def put_many(self, entries: Mapping[bytes, Embedding]) -> None:
        self._recent.add(entries, anyio.current_time())
        await self._cache.put_many(entries)

    async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        return await self._cache.claim(keys)

    def unclaim(self, keys: Sequence[bytes]) -> None:
        self._cache.unclaim(keys)
