"""Which process asks the provider for which text: a lease on each text, renewed for as long as the process lives.

The claims of a killed process end with their leases; then the next one takes over.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from streamer.adapters.redis.client import RedisClient
from streamer.adapters.redis.link import RedisLink

CLAIMS = b"streamer:c:"
LEASE_SECONDS = 10.0
RENEWALS = 3  # in the time of a lease

CLAIM = """local r = {}
for i, k in ipairs(KEYS) do
  r[i] = redis.call('SET', k, ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
end
return r"""
# Where the claims are gone, as after a restart without a disk, they are made again.
RENEW = """local r = {}
for i, k in ipairs(KEYS) do
  local v = redis.call('GET', k)
  r[i] = 1
  if not v then redis.call('SET', k, ARGV[1], 'PX', ARGV[2])
  elseif v == ARGV[1] then redis.call('PEXPIRE', k, ARGV[2])
  else r[i] = 0 end
end
return r"""
RELEASE = """local r = {}
for i, k in ipairs(KEYS) do
  r[i] = redis.call('GET', k) == ARGV[1] and redis.call('DEL', k) or 0
end
return r"""


class Claims:
    """The claims of this process on texts of one space. While Redis is away, every key may be claimed by anybody."""

    def __init__(self, link: RedisLink, space: str, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._link = link
        self._prefix = b"%b%b:" % (CLAIMS, space.encode())
        self._lease = lease_seconds
        self._token = secrets.token_hex(8)  # of this process
        self._held: set[bytes] = set()
        self._releases: set[asyncio.Task[None]] = set()

    async def claim(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those that no living process has claimed: ours until they are released."""
        names = [self._name(key) for key in keys]
        asking = asyncio.create_task(self._link.write(lambda client: self._run(client, CLAIM, names)))
        try:
            answers = await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._let_go(names, asking)
            raise
        if answers is None:
            return list(keys)
        claimed = [key for key, answer in zip(keys, answers, strict=True) if answer]
        self._held.update(map(self._name, claimed))
        return claimed

    def release(self, keys: Sequence[bytes]) -> None:
        names = [name for key in keys if (name := self._name(key)) in self._held]
        self._held.difference_update(names)
        self._let_go(names)

    async def renew(self) -> None:
        """Keep what is held. Never returns."""
        while True:
            await asyncio.sleep(self._lease / RENEWALS)
            if names := list(self._held):
                await self._link.write(lambda client, names=names: self._run(client, RENEW, names))  # type: ignore[misc]

    async def aclose(self) -> None:
        """Let go of everything."""
        held, self._held = list(self._held), set()
        self._let_go(held)
        if self._releases:
            await asyncio.wait(self._releases)

    def _let_go(self, names: list[bytes], asking: asyncio.Task[list[int] | None] | None = None) -> None:
        """In a task of its own: the caller may be on its way out, and has nothing to wait for."""
        if names:
            task = asyncio.create_task(self._release(names, asking))
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    async def _release(self, names: list[bytes], asking: asyncio.Task[list[int] | None] | None) -> None:
        if asking:  # on another connection the server may see the release first
            await asyncio.wait([asking])
        await self._link.write(lambda client: self._run(client, RELEASE, names))

    async def _run(self, client: RedisClient, script: str, names: Sequence[bytes]) -> list[int]:
        lease = int(1000 * self._lease)
        return await client.per_key(names, lambda some: ("EVAL", script, len(some), *some, self._token, lease))

    def _name(self, key: bytes) -> bytes:
        return self._prefix + key.hex().encode()
