"""Provider, limits and cache as the settings want them: what turns texts into vectors, with or without Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
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
LOCAL = ("onnx", "sentence-transformers")
LOCAL_BATCHES = 2  # one in the model, one being read from the cache
REMOTE_REQUESTS = 8


def contract_of(settings: Settings) -> Contract:
    """What the model demands and promises. Raises ConfigurationError for an unknown model without explicit values."""
    wanted = settings.provider
    return contract_for(
        wanted.name,
        wanted.model or DEFAULT_MODELS[wanted.name],
        # A local model says itself, once it is loaded, how long its vectors and its context are.
        dimensions=1 if wanted.name in LOCAL else None,
        max_item_tokens=wanted.max_item_tokens or (1 if wanted.name in LOCAL else None),
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


async def make_provider(settings: Settings, contract: Contract) -> Provider:
    """The adapter for this provider; imports its vendor's package, hence MissingExtra when that is absent."""
    wanted = settings.provider
    prefixes = {"document_prefix": contract.document_prefix, "query_prefix": contract.query_prefix}
    options: dict[str, Any] = {"model": contract.model, "on_too_long": settings.input.on_too_long}
    if wanted.name == "onnx":
        from streamer.adapters.providers.onnx import OnnxProvider

        return await OnnxProvider.open(**options, **prefixes, threads=wanted.threads)
    if wanted.name == "sentence-transformers":
        from streamer.adapters.providers.sentence_transformers import SentenceTransformersProvider

        options |= {name: prefix or None for name, prefix in prefixes.items()}
        options |= {"dimensions": wanted.dimensions, "request_dimensions": wanted.dimensions is not None}
        options |= {"device": wanted.device, "torch_threads": wanted.threads or 0}
        return await anyio.to_thread.run_sync(partial(SentenceTransformersProvider, **options))

    options |= prefixes | {
        "dimensions": contract.dimensions_for(wanted.dimensions),
        "request_dimensions": wanted.dimensions is not None and bool(contract.allowed_dimensions),
        "api_key": wanted.api_key.get_secret_value() if wanted.api_key else None,
        "base_url": wanted.base_url,
        "max_tokens": contract.max_item_tokens,
        "timeout_seconds": wanted.timeout_seconds,
        "max_connections": wanted.max_concurrent_requests or REMOTE_REQUESTS,
    }
    input_types: dict[str, Any] = {
        "document_input_type": contract.document_input_type,
        "query_input_type": contract.query_input_type,
    }
    if wanted.name == "ollama":
        from streamer.adapters.providers.ollama import OllamaProvider

        return OllamaProvider(**options, keep_alive=wanted.keep_alive)
    if wanted.name == "cohere":
        from streamer.adapters.providers.cohere import CohereProvider

        return CohereProvider(**options, **input_types)
    if wanted.name == "voyage":
        from streamer.adapters.providers.voyage import VoyageProvider

        return VoyageProvider(**options, **input_types)
    from streamer.adapters.providers.openai import OpenAIProvider

    return OpenAIProvider(
        **options,
        **input_types,
        azure_api_version=wanted.azure_api_version,
        azure_deployment=wanted.azure_deployment,
        headers=wanted.headers,
        encoding_format=wanted.encoding_format,
    )


@asynccontextmanager
async def open_provider(settings: Settings) -> AsyncIterator[Provider]:
    provider = await make_provider(settings, contract_of(settings))
    try:
        yield provider
    finally:
        with anyio.CancelScope(shield=True):
            await provider.aclose()


@asynccontextmanager
async def open_cache(settings: Settings, space: Space, suffix: str = "") -> AsyncIterator[SqliteVectorCache | None]:
    """None with `cache.enabled = false`. `suffix` keeps the file of another role apart: one process per file."""
    cache = settings.cache
    if not cache.enabled:
        yield None
        return
    path = cache.path.with_stem(f"{cache.path.stem}-{suffix}") if suffix else cache.path
    async with SqliteVectorCache.open(path, space, ttl_seconds=cache.ttl_seconds, max_bytes=cache.max_bytes) as opened:
        yield opened


@asynccontextmanager
async def open_idle_cache(settings: Settings, space: Space) -> AsyncIterator[SqliteVectorCache]:
    """The very file that the settings name; ConfigurationError while a worker uses it."""
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


@asynccontextmanager
async def open_embedding(settings: Settings, cache_suffix: str = "") -> AsyncIterator[EmbeddingStack]:
    """Provider, dispatcher and cache put together, closed in reverse order."""
    wanted = settings.provider
    async with open_provider(settings) as provider, open_cache(settings, provider.space, cache_suffix) as cache:
        contract = contract_of(settings)
        space = provider.space
        contract = replace(contract, dimensions=space.dimensions)
        if contract.is_local:
            contract = replace(contract, max_item_tokens=space.max_tokens)
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
        yield EmbeddingStack(CachedEmbedder(dispatcher, cache), dispatcher, cache)
