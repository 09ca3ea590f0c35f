"""The vector cache in Redis or Valkey: what one machine has embedded, all of them find.

It is only a cache: whatever happens to it, the texts are still there, so no fault of the server or of the network
reaches those who ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from streamer.adapters.redis import entries
from streamer.adapters.redis.claims import LEASE_SECONDS, Claims
from streamer.adapters.redis.client import MOST_KEYS, RedisClient
from streamer.adapters.redis.link import RedisLink
from streamer.adapters.redis.statistics import RedisStatistics, SharedContents
from streamer.core.vectors import Space
from streamer.errors import Unreachable
from streamer.protocols import Embedding

T = TypeVar("T")

COUNTING_SECONDS = 600.0  # for going through all names


class RedisVectorCache:
    """A VectorCache and Claims, made by `open`.

    An entry is found by everybody as soon as `put_many` has returned, unless the server was away.
    """

    def __init__(self, link: RedisLink, space: Space, ttl_seconds: float | None, claims: Claims) -> None:
        self._link = link
        self._space = space
        self._ttl = 0 if ttl_seconds is None else max(1, int(1000 * ttl_seconds))
        self._claims = claims
        self._stored = self._dropped = self._damaged = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, link: RedisLink, space: Space, *, ttl_seconds: float | None, lease_seconds: float = LEASE_SECONDS
    ) -> AsyncIterator[RedisVectorCache]:
        """The cache of one space, at the other end of a link that was started.

        Entries live for `ttl_seconds` from when they were stored, by the server's clock. A claim ends `lease_seconds`
        after its process was killed.
        """
        claims = Claims(link, space.id, lease_seconds=lease_seconds)
        renewing = asyncio.create_task(claims.renew())
        try:
            yield cls(link, space, ttl_seconds, claims)
        finally:
            renewing.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([renewing])
                await claims.aclose()

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Embedding]:
        wanted = list(dict.fromkeys(keys))
        names = [entries.vector_key(self._space.id, key) for key in wanted]
        if not names:
            return {}
        found = await self._link.read(lambda client: client.per_key(names, lambda some: ("MGET", *some)))
        hits: dict[bytes, Embedding] = {}
        for key, value in zip(wanted, found or (), strict=False):
            if value is None:
                continue
            if embedding := entries.decode(key, value, self._space.dimensions):
                hits[key] = embedding
            else:
                self._damaged += 1
        return hits

    async def put_many(self, entries_: Mapping[bytes, Embedding]) -> None:
        if not entries_:
            return
        values = {
            entries.vector_key(self._space.id, key): entries.encode(key, embedding)
            for key, embedding in entries_.items()
        }

        async def store(client: RedisClient) -> list[int]:
            # Every time: the server may have lost it, or somebody may have cleared it.
            await client.do("HSET", entries.SPACES, self._space.id, f"{self._space.provider} {self._space.model}")
            return await client.per_key(
                list(values),
                lambda some: ("EVAL", entries.PUT, len(some), *some, self._ttl, *(values[name] for name in some)),
            )

        if await self._link.write(store) is None:
            self._dropped += len(values)
        else:
            self._stored += len(values)

    async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """As Claims wants it, for all processes that share the server; while it is away, all."""
        return await self._claims.claim(keys)

    def unclaim(self, keys: Sequence[bytes]) -> None:
        self._claims.release(keys)

    def statistics(self) -> RedisStatistics:
        return RedisStatistics(self._stored, self._dropped, self._damaged, self._link.faults, self._link.is_available)

    def state(self) -> str | None:
        """Why it is left alone, or only read, just now; None while it is used."""
        return self._link.state()


async def contents_of(link: RedisLink) -> SharedContents:
    """What streamer keeps there, of all spaces. Raises Unreachable when it cannot be read."""

    async def count(client: RedisClient) -> SharedContents:
        known = await client.do("HGETALL", entries.SPACES)
        pairs = known.items() if isinstance(known, dict) else zip(known[::2], known[1::2], strict=True)
        described = {name.decode(): who.decode() for name, who in pairs}
        counts: dict[str, int] = {}
        samples: dict[str, bytes] = {}
        for name in await client.names(entries.VECTORS + b"*"):
            space = name[len(entries.VECTORS) :].partition(b":")[0].decode()
            counts[space] = counts.get(space, 0) + 1
            samples.setdefault(space, name)
        total = 0
        for space, sample in samples.items():
            total += counts[space] * int(await client.do("MEMORY USAGE", sample) or 0)
        spaces = {f"{space} {described.get(space, '')}".rstrip(): n for space, n in sorted(counts.items())}
        return SharedContents(link.name, total, sum(counts.values()), spaces)

    return _had(link, await link.read(count, give_up_after=COUNTING_SECONDS))


async def clear(link: RedisLink) -> None:
    """Delete the entries of all spaces. Raises Unreachable if that fails."""

    async def delete(client: RedisClient) -> bool:
        names = list(await client.names(entries.VECTORS + b"*"))
        for start in range(0, len(names), MOST_KEYS):
            await client.each([("UNLINK", name) for name in names[start : start + MOST_KEYS]])
        await client.do("DEL", entries.SPACES)
        return True

    _had(link, await link.write(delete, give_up_after=COUNTING_SECONDS))


def _had(link: RedisLink, result: T | None) -> T:
    if result is None:
        raise Unreachable(f"cache.url = {link.state() or link.name}")
    return result
