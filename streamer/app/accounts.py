"""What all processes that use one account of a provider keep together: its limits and its costs."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamer.app.caches import Caches
from streamer.app.spending import LedgerStore, account_of
from streamer.embedding.contracts import Contract
from streamer.protocols import SharedQuota, SpendLedger
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.adapters.redis.link import RedisLink
    from streamer.adapters.redis.workers import Workers


@dataclass(frozen=True, slots=True)
class Account:
    """`quota`: the limits per minute; None: each process keeps them by itself. `ledgers`: where costs are counted."""

    quota: SharedQuota | None
    ledgers: LedgerStore | None


@dataclass(frozen=True, slots=True)
class RedisLedgers:
    """A LedgerStore for all machines."""

    link: RedisLink
    workers: Workers
    is_shared: bool = True

    def ledger(self, account: str) -> SpendLedger:
        from streamer.adapters.redis.spend import RedisSpendLedger

        return RedisSpendLedger(self.link, account, self.workers)


@asynccontextmanager
async def open_account(settings: Settings, contract: Contract, caches: Caches) -> AsyncIterator[Account]:
    """On the server of `cache.url` where there is one; else limits are each process's own, costs in the cache file."""
    link = caches.link
    if link is None or contract.is_local:
        yield Account(None, caches.file)
        return
    from streamer.adapters.redis.quota import RedisQuota
    from streamer.adapters.redis.workers import Workers

    async with (
        Workers.open(link, account_of(settings, contract)) as workers,
        RedisQuota.open(link, limited_name(settings, contract), workers) as quota,
    ):
        yield Account(quota, RedisLedgers(link, workers))


def limited_name(settings: Settings, contract: Contract) -> str:
    """What a vendor's limits are for: a model and a key. The key itself is not told, a digest of it is."""
    key = settings.provider.api_key
    digest = hashlib.blake2b(key.get_secret_value().encode() if key else b"", digest_size=8).hexdigest()
    return f"{account_of(settings, contract)} {contract.model} {digest}"
