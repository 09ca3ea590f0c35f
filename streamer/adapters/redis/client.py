"""One command for many keys: in one round trip to a single server, and cut by key for a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from streamer.adapters.redis.sentinel import is_by_sentinels, sentinels_of, server_of
from streamer.errors import MissingExtra

try:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff, NoBackoff
    from redis.exceptions import (
        AuthenticationError,
        AuthorizationError,
        NoPermissionError,
        OutOfMemoryError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        ResponseError,
    )
except ImportError as exc:
    raise MissingExtra("redis", "redis") from exc

__all__ = ["FAULTS", "MOST_KEYS", "REFUSALS", "Command", "RedisClient", "is_only_read"]

FAULTS = (RedisError, RedisClusterException, OSError)  # OSError: with TimeoutError, and what a proxy may do
REFUSALS = (AuthenticationError, AuthorizationError, NoPermissionError)
WRITE_FAULTS = ("OOM ", "READONLY", "MISCONF", "NOREPLICAS")  # as scripts and the server itself say it
MOST_KEYS = 512  # of one command: the server does nothing else meanwhile

Command: TypeAlias = tuple[Any, ...]


class RedisClient:
    """A server, one that sentinels name, or a cluster, made by `connect`. Raises what redis-py raises."""

    def __init__(self, client: Redis | RedisCluster, sentinels: Sequence[Redis] = ()) -> None:
        self._client: Any = client
        self._sentinels = sentinels
        self._is_cluster = isinstance(client, RedisCluster)

    @classmethod
    async def connect(cls, url: str, password: str | None, timeout: float) -> RedisClient:
        """`timeout`: seconds that the server may take for one answer. Which of the two it is, the server says."""
        options: dict[str, Any] = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "protocol": 2,  # which every server and every proxy speaks
        } | ({"password": password} if password else {})
        # Once more: a connection that the server has closed for being idle shows only when it is used.
        once_more = Retry(NoBackoff(), 1)
        if is_by_sentinels(url):
            return cls(*server_of(sentinels_of(url), {**options, "retry": once_more}, timeout))
        single = Redis.from_url(url, retry=once_more, **options)
        try:
            facts = await _facts(single, "cluster")
        except BaseException:
            await single.aclose()
            raise
        if not facts.get("cluster_enabled"):
            return cls(single)
        await single.aclose()
        cluster = RedisCluster.from_url(url, retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3), **options)
        try:
            await cluster.initialize()
        except BaseException:
            await cluster.aclose()
            raise
        return cls(cluster)

    async def ping(self) -> None:
        await self._client.ping()

    async def do(self, *command: Any) -> Any:
        """One command whose keys are in one slot."""
        return await self._client.execute_command(*command)

    async def each(self, commands: Sequence[Command]) -> list[Any]:
        """Several of those, sent together; the results in their order."""
        if len(commands) == 1:
            return [await self.do(*commands[0])]
        pipeline = self._client.pipeline() if self._is_cluster else self._client.pipeline(transaction=False)
        async with pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            results: list[Any] = await pipeline.execute()
        return results

    async def per_key(self, keys: Sequence[bytes], command: Callable[[Sequence[bytes]], Command]) -> list[Any]:
        """One result for each key, of commands that answer so."""
        size = 1 if self._is_cluster else MOST_KEYS
        groups = [keys[start : start + size] for start in range(0, len(keys), size)]
        answers = await self.each([command(group) for group in groups])
        return [result for answer in answers for result in answer]

    async def names(self, pattern: bytes) -> Iterable[bytes]:
        """The keys that match, of all servers; those that come and go meanwhile may be left out."""
        return [key async for key in self._client.scan_iter(match=pattern, count=5000)]

    async def aclose(self) -> None:
        for client in (self._client, *self._sentinels):
            await client.aclose()


def is_only_read(exc: Exception) -> bool:
    """Whether the server can be read, and just not written: its memory is full, or its disk, or it is a replica."""
    says_so = isinstance(exc, ResponseError) and any(word in str(exc) for word in WRITE_FAULTS)
    return says_so or isinstance(exc, OutOfMemoryError | ReadOnlyError)


async def _facts(client: Redis, section: str) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = await client.info(section)
    except NoPermissionError:
        return {}  # an account that may not ask; a cluster's would have to
    return facts
