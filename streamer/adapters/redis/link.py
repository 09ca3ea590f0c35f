"""The way to Redis through whatever happens to it: left alone while it is away, and found again.

Nobody who embeds waits for it for long: the first who finds it gone waits for PATIENCE_SECONDS at most, the others not
at all. A task of its own looks whether it is back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias, TypeVar

import anyio
import structlog

from streamer.adapters.redis.client import FAULTS, REFUSALS, RedisClient, is_only_read
from streamer.core.outages import Outage
from streamer.errors import ConfigurationError, without_credentials

log = structlog.get_logger(__name__)

T = TypeVar("T")
Work: TypeAlias = Callable[[RedisClient], Awaitable[T]]

PATIENCE_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 4.0
WRITE_AGAIN_SECONDS = 5.0
CLOSE_SECONDS = 1.0


class RedisLink:
    """One server or cluster, any number of callers, made by `open`. After a fault it is looked for again in
    `retry_seconds`, and then ever less often."""

    def __init__(self, url: str, *, password: str | None, retry_seconds: float) -> None:
        self.name = without_credentials(url).partition("?")[0]
        self._url = url
        self._password = password
        self._retry_seconds = retry_seconds
        self._client: RedisClient | None = None
        self._closed = False
        self._write_again_at = -math.inf
        self._reason: str | None = "not tried yet"
        self._write_reason = ""
        self._looking: asyncio.Task[None] | None = None
        self._outage = Outage(settle=0.0)  # a fault is told at once: texts are paid for again from then on
        self.faults = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, password: str | None = None, retry_seconds: float = 0.5
    ) -> AsyncIterator[RedisLink]:
        """Connected; ConfigurationError when the server refuses us. One that does not answer is looked for later."""
        link = cls(url, password=password, retry_seconds=retry_seconds)
        try:
            await link._start()
            yield link
        finally:
            with anyio.CancelScope(shield=True):
                await link._end()

    @property
    def is_available(self) -> bool:
        return self._reason is None

    def state(self) -> str | None:
        """Why it is not used, or not written, just now."""
        if self._reason is not None:
            return f"{self.name}: {self._reason}"
        is_only_read = asyncio.get_running_loop().time() < self._write_again_at
        return f"{self.name}: {self._write_reason}" if is_only_read else None

    async def _start(self) -> None:
        try:
            await self._connect()
        except REFUSALS as exc:
            raise ConfigurationError(f"cache.url = {self.name}: {exc}") from exc
        except ValueError as exc:
            raise ConfigurationError(f"cache.url = {self.name}: {without_credentials(str(exc))}") from exc
        except FAULTS as exc:
            self._fault(exc)
        else:
            self._reason = None

    async def read(self, work: Work[T], *, give_up_after: float = PATIENCE_SECONDS) -> T | None:
        """What `work` returns; None while it is away."""
        return await self._ask(work, give_up_after)

    async def write(self, work: Work[T], *, give_up_after: float = PATIENCE_SECONDS) -> T | None:
        """The same for what changes something; None also while it can only be read."""
        if asyncio.get_running_loop().time() < self._write_again_at:
            return None
        result = await self._ask(work, give_up_after)
        if result is not None:
            self._tell(None)
        return result

    async def _end(self) -> None:
        self._closed = True
        if self._looking:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        self._reason = "closed"
        await _closed(self._client)

    async def _ask(self, work: Work[T], give_up_after: float) -> T | None:
        client = self._client
        if self._reason is not None or client is None:
            return None
        try:
            async with asyncio.timeout(give_up_after):
                return await work(client)
        except FAULTS as exc:
            self._fault(exc)
            return None

    async def _connect(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            if self._client is None:
                self._client = await RedisClient.connect(self._url, self._password, PATIENCE_SECONDS)
            await self._client.ping()

    def _fault(self, exc: Exception) -> None:
        reason = without_credentials(str(exc)) or f"no answer within {PATIENCE_SECONDS:g} s"
        if is_only_read(exc):
            self._write_again_at = asyncio.get_running_loop().time() + WRITE_AGAIN_SECONDS
            self._write_reason = f"not writable: {reason}"
            self.faults += 1
            self._tell(self._write_reason)
        elif self._looking is None and not self._closed:  # others found out before
            self._reason = reason
            self.faults += 1
            self._tell(reason)
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        delay = self._retry_seconds
        while True:
            await asyncio.sleep(delay)
            try:
                await self._connect()
            except (*FAULTS, ValueError) as exc:
                self._reason = without_credentials(str(exc)) or f"no answer within {PATIENCE_SECONDS:g} s"
                self._tell(self._reason)
                delay = min(2 * delay, LONGEST_RETRY_SECONDS)
            else:
                self._reason = self._looking = None
                self._tell(None)
                return

    def _tell(self, reason: str | None) -> None:
        if transition := self._outage.observe(reason, asyncio.get_running_loop().time()):
            level, event, facts = transition.line("shared cache")
            log.log(level, event, url=self.name, **facts)


async def _closed(client: RedisClient | None) -> None:
    if client:
        with suppress(*FAULTS):
            async with asyncio.timeout(CLOSE_SECONDS):
                await client.aclose()
