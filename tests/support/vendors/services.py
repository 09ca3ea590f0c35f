"""How each service's adapter is tried: its fake, how it is made, and what the right vectors are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

from streamer.adapters.providers.cohere import CohereProvider
from streamer.adapters.providers.connection import HttpConnection
from streamer.adapters.providers.ollama import OllamaProvider
from streamer.adapters.providers.openai import OpenAIProvider
from streamer.adapters.providers.voyage import VoyageProvider
from streamer.core.vectors import Matrix, Space, unit_rows
from streamer.errors import StreamerError
from streamer.protocols import Provider
from tests.support.vendors.cohere import FakeCohere
from tests.support.vendors.limits import Limits
from tests.support.vendors.ollama import FakeOllama
from tests.support.vendors.openai import FakeAzureOpenAI, FakeOpenAI
from tests.support.vendors.server import FakeVendor
from tests.support.vendors.voyage import FakeVoyage

KEY = "sk-test-0123456789abcdefABCDEF"


@dataclass(frozen=True, slots=True)
class Service:
    """`expected` gives the right vectors of texts for a purpose.

    `indexed`: answers say which text a vector belongs to. `base64`: they are encoded. `longest`: tokens of the longest
    text it takes; `takes_empty`: whether an empty text is one.
    """

    fake: Callable[..., FakeVendor]
    make: Callable[..., Provider]
    expected: Callable[[list[str], str], Matrix]
    longest: int
    indexed: bool = False
    base64: bool = True
    takes_empty: bool = False


def make(adapter: Callable[..., Provider], provider: str, **options: Any) -> Provider:
    """An adapter from one flat set of options: those of its space, of its connection and its own."""

    def taken(part: type) -> dict[str, Any]:
        return {f.name: options.pop(f.name) for f in fields(part) if f.init and f.name in options}

    return adapter(Space(provider=provider, **taken(Space)), HttpConnection(**taken(HttpConnection)), **options)


def _openai(server: Any, **options: Any) -> Provider:
    known = {"model": "text-embedding-3-small", "dimensions": 1536, "api_key": KEY, "base_url": server.base_url}
    return make(OpenAIProvider, "openai", **known | options)


def _azure(server: Any, **options: Any) -> Provider:
    azure = {"azure_api_version": server.api_version, "azure_deployment": server.deployment}
    return _openai(server, **azure | options)


def _shortened(server: Any, **options: Any) -> Provider:
    return _openai(server, **{"dimensions": 256, "request_dimensions": True, "encoding_format": "float"} | options)


def _cohere(server: Any, **options: Any) -> Provider:
    known = {"model": "embed-english-v3.0", "dimensions": 1024, "api_key": KEY, "base_url": server.base_url}
    types = {"document_input_type": "search_document", "query_input_type": "search_query"}
    return make(CohereProvider, "cohere", **known | types | options)


def _cohere_v4(server: Any, **options: Any) -> Provider:
    return _cohere(server, **{"model": "embed-v4.0", "dimensions": 512, "request_dimensions": True} | options)


def _voyage(server: Any, **options: Any) -> Provider:
    known = {"model": "voyage-3", "dimensions": 1024, "api_key": KEY, "base_url": server.base_url}
    types = {"document_input_type": "document", "query_input_type": "query"}
    return make(VoyageProvider, "voyage", **known | types | options)


def _voyage_shortened(server: Any, **options: Any) -> Provider:
    return _voyage(server, **{"model": "voyage-3.5", "dimensions": 256, "request_dimensions": True} | options)


def _ollama(server: Any, **options: Any) -> Provider:
    # Only the first call is allowed the time to load a model; a test that shortens one means both.
    if "timeout_seconds" in options:
        options |= {"load_timeout_seconds": options["timeout_seconds"]}
    known = {"model": "nomic-embed-text", "dimensions": 768, "api_key": KEY, "base_url": server.base_url}
    return make(OllamaProvider, "ollama", **known | options)


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
    ),
    "voyage, shortened": Service(
        FakeVoyage,
        _voyage_shortened,
        lambda texts, purpose: FakeVoyage().expected(texts, purpose, dimensions=256),
        longest=32_000,
        indexed=True,
    ),
    "ollama": Service(
        FakeOllama,
        _ollama,
        lambda texts, purpose: FakeOllama().expected(texts),
        longest=8192,
        base64=False,
        takes_empty=True,
    ),
}


every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
# Where options of one adapter make no difference.
every_adapter = pytest.mark.parametrize(
    "service", [pytest.param(SERVICES[name], id=name) for name in ("openai", "azure", "cohere", "voyage", "ollama")]
)
one_adapter_and_slowly_every = pytest.mark.parametrize(  # for what costs a second, and most of it is common to them
    "service",
    [
        pytest.param(SERVICES[name], id=name, marks=() if name == "openai" else pytest.mark.slow)
        for name in ("openai", "azure", "cohere", "voyage", "ollama")
    ],
)
every_indexed_service = pytest.mark.parametrize(
    "service", [pytest.param(service, id=name) for name, service in SERVICES.items() if service.indexed]
)
every_base64_service = pytest.mark.parametrize(
    "service", [pytest.param(service, id=name) for name, service in SERVICES.items() if service.base64]
)

TEXTS = ["first", "second text", "third", "fourth", "fifth one", "sixth"]


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


async def failure(provider: Provider, texts: list[str] | None = None) -> StreamerError:
    with pytest.raises(StreamerError) as caught:
        await provider.embed(texts or TEXTS, "document")
    return caught.value


def assert_same(vectors: Matrix, expected: Matrix) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == expected.shape
    # Not to the bit: in a local model, the padding of a group moves the last digits.
    cosines = np.einsum("ij,ij->i", unit_rows(vectors), unit_rows(expected))
    assert cosines.min() > 1 - 1e-5
