"""How many processes share an account: each says every few seconds that it is there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from streamer.adapters.redis.link import RedisLink

WORKERS = b"streamer:workers:"
BEAT_SECONDS = 2.0
SILENCE_SECONDS = 10.0  # then it is not counted any more

# By the clock of the server, which all of them share.
BEAT = """local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 1000)
return redis.call('ZCARD', KEYS[1])"""


class Workers:
    """`token`: names this process. `count`: as last known, with this one; 1 before anything is known."""

    def __init__(self, link: RedisLink, account: str) -> None:
        self._link = link
        self._key = WORKERS + account.encode()
        self.token = secrets.token_hex(8)
        self.count = 1
        self.is_known = False

    @classmethod
    @asynccontextmanager
    async def open(cls, link: RedisLink, account: str) -> AsyncIterator[Workers]:
        """Counted until the end of the block."""
        workers = cls(link, account)
        await workers._beat()
        beating = asyncio.create_task(workers._go_on())
        try:
            yield workers
        finally:
            beating.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([beating])
                await link.write(lambda client: client.do("ZREM", workers._key, workers.token))

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._beat()

    async def _beat(self) -> None:
        count = await self._link.write(
            lambda client: client.do("EVAL", BEAT, 1, self._key, self.token, SILENCE_SECONDS)
        )
        if count is not None:
            self.count, self.is_known = int(count), True
