"""Provider, limits and cache as the settings want them: what turns texts into vectors, with or without Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from streamer.app.accounts import open_account
from streamer.app.caches import Caches, open_caches
from streamer.app.providers import open_provider
from streamer.app.spending import budget_for, price_for
from streamer.app.tracing import find_tracing
from streamer.core.vendors import calls_at_once
from streamer.embedding.budget import Budget
from streamer.embedding.cached import CachedEmbedder
from streamer.embedding.contracts import Contract
from streamer.embedding.dispatcher import Dispatcher
from streamer.embedding.prices import Price
from streamer.embedding.quota import Quota
from streamer.protocols import Provider
from streamer.settings import Settings


@dataclass(frozen=True, slots=True)
class EmbeddingStack:
    """The layers that a text goes through, outermost first. `price`: of its tokens, None where nobody knows it."""

    embedder: CachedEmbedder
    dispatcher: Dispatcher
    caches: Caches
    contract: Contract
    budget: Budget | None
    price: Price | None


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
        open_caches(settings, opened.provider.space) as caches,
        open_account(settings, opened.contract, caches) as account,
    ):
        contract = opened.contract
        quota = Quota(
            requests_per_minute=wanted.requests_per_minute or contract.requests_per_minute,
            tokens_per_minute=wanted.tokens_per_minute or contract.tokens_per_minute,
            items_per_minute=wanted.texts_per_minute or contract.items_per_minute,
        )
        budget = budget_for(settings, contract, account.ledgers)
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
            shared=account.quota,
        )
        cache = caches.together
        embedder = CachedEmbedder(dispatcher, cache, claims=cache)
        yield EmbeddingStack(embedder, dispatcher, caches, contract, budget, price_for(settings, contract))
