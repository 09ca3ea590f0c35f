"""Provider, limits and cache as the settings want them: what turns texts into vectors, with or without Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from streamer.adapters.sqlite import SqliteVectorCache
from streamer.core.contracts import Contract, contract_for
from streamer.core.quota import Quota
from streamer.core.vectors import Space
from streamer.embedding.cached import CachedEmbedder
from streamer.embedding.dispatch import Dispatcher
from streamer.protocols import Provider
from streamer.settings import Settings

# What a user gets who names a provider and nothing else.
DEFAULT_MODELS = {
    "onnx": "all-MiniLM-L6-v2",
    "sentence-transformers": "all-MiniLM-L6-v2",
    "openai": "text-embedding-3-small",
    "cohere": "embed-v4.0",
    "voyage": "voyage-3.5",
    "ollama": "nomic-embed-text",
}
LOCAL_BATCHES = 2  # one in the model, one being read from the cache
REMOTE_REQUESTS = 8


def contract_of(settings: Settings) -> Contract:
    """What the model demands and promises. Raises ConfigurationError for an unknown model without explicit values."""
    wanted = settings.provider
    return contract_for(
        wanted.name,
        wanted.model or DEFAULT_MODELS[wanted.name],
        dimensions=None,
        max_item_tokens=wanted.max_item_tokens,
        max_items=wanted.max_items,
        max_request_tokens=wanted.max_request_tokens,
        document_input_type=wanted.input_type,
        query_input_type=wanted.query_input_type,
        document_prefix=wanted.document_prefix,
        query_prefix=wanted.query_prefix,
    )


def batches_at_once(settings: Settings) -> int:
    """How many micro-batches may embed at the same time."""
    local = LOCAL_BATCHES if contract_of(settings).is_local else REMOTE_REQUESTS
    return settings.provider.max_concurrent_requests or local


def make_provider(settings: Settings, contract: Contract) -> Provider:
    """The adapter for this provider; imports its vendor's package, hence MissingExtra when that is absent."""
    wanted = settings.provider
    common: dict[str, Any] = {
        "model": contract.model,
        "on_too_long": settings.input.on_too_long,
        "document_prefix": contract.document_prefix,
        "query_prefix": contract.query_prefix,
    }
    match wanted.name:
        case "onnx":
            from streamer.adapters.providers.onnx import OnnxProvider

            return OnnxProvider(**common, threads=wanted.threads)
        case _:
            raise NotImplementedError(wanted.name)


@asynccontextmanager
async def open_provider(settings: Settings) -> AsyncIterator[Provider]:
    contract = contract_of(settings)
    # Loading a model or building TLS contexts takes a while; signals must be served meanwhile.
    provider = await anyio.to_thread.run_sync(make_provider, settings, contract)
    try:
        yield provider
    finally:
        with anyio.CancelScope(shield=True):
            await provider.aclose()


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
async def open_embedder(settings: Settings) -> AsyncIterator[CachedEmbedder]:
    """Provider, dispatcher and cache put together, closed in reverse order."""
    contract = contract_of(settings)
    wanted = settings.provider
    async with open_provider(settings) as provider, open_cache(settings, provider.space) as cache:
        quota = Quota(
            requests_per_minute=wanted.requests_per_minute or contract.requests_per_minute,
            tokens_per_minute=wanted.tokens_per_minute or contract.tokens_per_minute,
            items_per_minute=contract.items_per_minute,
        )
        dispatcher = Dispatcher(
            provider,
            contract,
            limits=quota,
            concurrency=wanted.max_concurrent_requests,
            timeout=wanted.timeout_seconds,
        )
        yield CachedEmbedder(dispatcher, cache)
