"""Provider, limits and cache as the settings want them: what turns texts into vectors, with or without Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from streamer.adapters.sqlite import SqliteVectorCache
from streamer.app.providers import open_provider
from streamer.app.spending import budget_for
from streamer.app.tracing import find_tracing
from streamer.core.vectors import Space
from streamer.core.vendors import calls_at_once
from streamer.embedding.budget import Budget
from streamer.embedding.cached import CachedEmbedder
from streamer.embedding.contracts import Contract
from streamer.embedding.dispatcher import Dispatcher
from streamer.embedding.quota import Quota
from streamer.protocols import Provider
from streamer.settings import Settings


@asynccontextmanager
async def open_cache(settings: Settings, space: Space) -> AsyncIterator[SqliteVectorCache | None]:
    """None with `cache.enabled = false`."""
    cache = settings.cache
    if not cache.enabled:
        yield None
        return
    async with SqliteVectorCache.open(
        cache.path, space, ttl_seconds=cache.ttl_seconds, max_bytes=cache.max_bytes
    ) as opened:
        yield opened


@asynccontextmanager
async def open_named_cache(settings: Settings, space: Space) -> AsyncIterator[SqliteVectorCache]:
    """The very file that the settings name; ConfigurationError while it is the own file of a worker."""
    cache = settings.cache
    async with SqliteVectorCache.open(
        cache.path, space, ttl_seconds=cache.ttl_seconds, max_bytes=cache.max_bytes, next_if_taken=False
    ) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class EmbeddingStack:
    """The layers that a text goes through, outermost first."""

    embedder: CachedEmbedder
    dispatcher: Dispatcher
    cache: SqliteVectorCache | None
    contract: Contract
    budget: Budget | None


@asynccontextmanager
async def open_embedding(
    settings: Settings, *, give_up_after: float | None = None, own: Provider | None = None
) -> AsyncIterator[EmbeddingStack]:
    """Provider, dispatcher and cache put together, closed in reverse order.

    `give_up_after`: as in Dispatcher. `own`: as in open_provider.
    """
    wanted = settings.provider
    async with (
        open_provider(settings, own) as opened,
        open_cache(settings, opened.provider.space) as cache,
    ):
        contract = opened.contract
        quota = Quota(
            requests_per_minute=wanted.requests_per_minute or contract.requests_per_minute,
            tokens_per_minute=wanted.tokens_per_minute or contract.tokens_per_minute,
            items_per_minute=contract.items_per_minute,
        )
        budget = budget_for(settings, contract, cache)
        dispatcher = Dispatcher(
            opened.provider,
            contract,
            limits=quota,
            concurrency=wanted.max_concurrent_requests or calls_at_once(opened.contract.provider),
            timeout=opened.timeout,
            give_up_after=give_up_after,
            count_tokens=opened.count_tokens,
            tracing=find_tracing(),
            budget=budget,
        )
        yield EmbeddingStack(CachedEmbedder(dispatcher, cache, claims=cache), dispatcher, cache, contract, budget)
