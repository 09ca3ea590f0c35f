"""How each service's adapter is tried: its fake, how it is made, and what the right vectors are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from streamer.adapters.providers.cohere import CohereProvider
from streamer.adapters.providers.ollama import OllamaProvider
from streamer.adapters.providers.openai import OpenAIProvider
from streamer.adapters.providers.voyage import VoyageProvider
from streamer.core.vectors import Matrix
from streamer.protocols import Provider
from tests.vendors.cohere import FakeCohere
from tests.vendors.limits import Limits
from tests.vendors.ollama import FakeOllama
from tests.vendors.openai import FakeAzureOpenAI, FakeOpenAI
from tests.vendors.server import FakeVendor
from tests.vendors.voyage import FakeVoyage

KEY = "sk-test-0123456789abcdefABCDEF"


@dataclass(frozen=True, slots=True)
class Service:
    """`expected` gives the right vectors of texts for a purpose.

    `indexed`: answers say which text a vector belongs to. `base64`: they are encoded. `longest`: tokens of the longest
    text it takes; `takes_empty`: whether an empty text is one. `has_quota`: it says when an account has no money left.
    """

    fake: Callable[..., FakeVendor]
    make: Callable[..., Provider]
    expected: Callable[[list[str], str], Matrix]
    longest: int
    indexed: bool = False
    base64: bool = True
    takes_empty: bool = False
    has_quota: bool = True


def _openai(server: Any, **options: Any) -> Provider:
    return OpenAIProvider(
        **{"model": "text-embedding-3-small", "dimensions": 1536, "api_key": KEY, "base_url": server.base_url} | options
    )


def _azure(server: Any, **options: Any) -> Provider:
    azure = {"azure_api_version": server.api_version, "azure_deployment": server.deployment}
    return _openai(server, **azure | options)


def _shortened(server: Any, **options: Any) -> Provider:
    return _openai(server, **{"dimensions": 256, "request_dimensions": True, "encoding_format": "float"} | options)


def _cohere(server: Any, **options: Any) -> Provider:
    return CohereProvider(
        **{"model": "embed-english-v3.0", "dimensions": 1024, "api_key": KEY, "base_url": server.base_url} | options
    )


def _cohere_v4(server: Any, **options: Any) -> Provider:
    return _cohere(server, **{"model": "embed-v4.0", "dimensions": 512, "request_dimensions": True} | options)


def _voyage(server: Any, **options: Any) -> Provider:
    return VoyageProvider(
        **{"model": "voyage-3", "dimensions": 1024, "api_key": KEY, "base_url": server.base_url} | options
    )


def _voyage_shortened(server: Any, **options: Any) -> Provider:
    return _voyage(server, **{"model": "voyage-3.5", "dimensions": 256, "request_dimensions": True} | options)


def _ollama(server: Any, **options: Any) -> Provider:
    # Only the first call is allowed the time to load a model; a test that shortens one means both.
    if "timeout_seconds" in options:
        options |= {"load_timeout_seconds": options["timeout_seconds"]}
    return OllamaProvider(
        **{"model": "nomic-embed-text", "dimensions": 768, "api_key": KEY, "base_url": server.base_url} | options
    )


SERVICES = {
    "openai": Service(
        FakeOpenAI, _openai, lambda texts, purpose: FakeOpenAI().expected(texts), longest=8192, indexed=True
    ),
    "openai, shortened, as numbers": Service(
        FakeOpenAI,
        _shortened,
        lambda texts, purpose: FakeOpenAI().expected(texts, dimensions=256),
        longest=8192,
        indexed=True,
        base64=False,
    ),
    "azure": Service(
        FakeAzureOpenAI, _azure, lambda texts, purpose: FakeOpenAI().expected(texts), longest=8192, indexed=True
    ),
    "cohere": Service(
        FakeCohere, _cohere, lambda texts, purpose: FakeCohere().expected(texts, f"search_{purpose}"), longest=512
    ),
    "cohere, shortened": Service(
        FakeCohere,
        _cohere_v4,
        lambda texts, purpose: FakeCohere().expected(texts, f"search_{purpose}", dimensions=512),
        longest=128_000,
    ),
    "voyage": Service(
        FakeVoyage,
        _voyage,
        lambda texts, purpose: FakeVoyage().expected(texts, purpose),
        longest=32_000,
        indexed=True,
        has_quota=False,
    ),
    "voyage, shortened": Service(
        FakeVoyage,
        _voyage_shortened,
        lambda texts, purpose: FakeVoyage().expected(texts, purpose, dimensions=256),
        longest=32_000,
        indexed=True,
        has_quota=False,
    ),
    "ollama": Service(
        FakeOllama,
        _ollama,
        lambda texts, purpose: FakeOllama().expected(texts),
        longest=8192,
        base64=False,
        takes_empty=True,
        has_quota=False,
    ),
}


@asynccontextmanager
async def running(
    service: Service, *, limits: Limits | None = None, **options: Any
) -> AsyncIterator[tuple[FakeVendor, Provider]]:
    async with service.fake(key=KEY, limits=limits) as server:
        provider = service.make(server, **options)
        try:
            yield server, provider
        finally:
            await provider.aclose()
