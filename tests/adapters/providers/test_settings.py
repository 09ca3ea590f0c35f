"""What constructing a provider settles: its space, its key, what it asks for, and what it refuses to start with."""

from __future__ import annotations

import sys

import pytest

from streamer.adapters.providers.cohere import CohereProvider
from streamer.adapters.providers.ollama import OllamaProvider
from streamer.adapters.providers.openai import OpenAIProvider
from streamer.adapters.providers.voyage import VoyageProvider
from streamer.errors import ConfigurationError, MissingExtra
from tests.support.vendors.ollama import FakeOllama
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import (
    KEY,
    SERVICES,
    TEXTS,
    every_adapter,
    make,
    running,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("provider", "variable"),
    [(OpenAIProvider, "OPENAI_API_KEY"), (CohereProvider, "COHERE_API_KEY"), (VoyageProvider, "VOYAGE_API_KEY")],
)
def test_a_missing_key_is_named_by_its_variable(provider, variable):
    with pytest.raises(ConfigurationError, match=variable):
        make(provider, "any", model="m", dimensions=3)


@pytest.mark.parametrize("provider", [OpenAIProvider, CohereProvider, VoyageProvider, OllamaProvider])
def test_a_wrong_url_is_refused_before_anything_is_opened(provider):
    with pytest.raises(ConfigurationError, match="base_url"):
        make(provider, "any", model="m", dimensions=3, api_key=KEY, base_url="localhost:8000")


@pytest.mark.parametrize(
    ("provider", "package"), [(OpenAIProvider, "openai"), (CohereProvider, "cohere"), (OllamaProvider, "ollama")]
)
def test_a_missing_package_is_named_with_its_extra(provider, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"^{package} is not installed; .* 'embedding-streamer\[{package}\]'"):
        make(provider, "any", model="m", dimensions=3, api_key=KEY)


@every_adapter
async def test_the_space_follows_what_changes_a_vector(service):
    async with running(service) as (server, provider):
        same = service.make(server, api_key="another-key", timeout_seconds=3.0, max_connections=2)
        assert same.space == provider.space
        await same.aclose()
        for change in ({"document_prefix": "passage: "}, {"dimensions": 64}, {"on_too_long": "reject"}):
            other = service.make(server, **change)
            assert other.space.id != provider.space.id
            await other.aclose()


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("cohere", "input_type", ["search_document", "search_query"]),
        ("voyage", "input_type", ["document", "query"]),
    ],
)
async def test_the_purpose_is_said_where_the_service_has_a_word_for_it(name, field, values):
    async with running(SERVICES[name]) as (server, provider):
        await provider.embed(TEXTS, "document")
        await provider.embed(TEXTS, "query")
        assert [request.json[field] for request in server.requests] == values


async def test_no_input_type_for_voyage():
    async with running(SERVICES["voyage"], document_input_type="") as (server, provider):
        await provider.embed(TEXTS, "document")
        assert server.requests[0].json["input_type"] is None


async def test_ollama_is_told_how_long_to_keep_the_model():
    async with FakeOllama() as server:
        provider = make(
            OllamaProvider,
            "ollama",
            model="nomic-embed-text",
            dimensions=768,
            base_url=server.base_url,
            keep_alive="1h",
        )
        await provider.embed(TEXTS, "document")
        await provider.aclose()
        (request,) = server.requests
        assert request.json["keep_alive"] == "1h"
        assert "authorization" not in request.headers


async def test_an_ollama_server_without_keys_does_not_get_the_one_of_the_environment(monkeypatch):
    """As a fallback: the key was given for the first server, and reaches that one with the settings."""
    monkeypatch.setenv("OLLAMA_API_KEY", KEY)
    async with FakeOllama() as server:
        provider = make(OllamaProvider, "ollama", model="nomic-embed-text", dimensions=768, base_url=server.base_url)
        await provider.embed(TEXTS, "document")
        await provider.aclose()
        assert KEY not in str(server.requests[0].headers)


async def test_a_compatible_server_without_keys_does_not_get_the_one_of_openai(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with FakeOpenAI() as server:
        provider = make(
            OpenAIProvider, "openai", model="text-embedding-3-small", dimensions=1536, base_url=server.base_url
        )
        await provider.embed(TEXTS, "document")
        await provider.aclose()
        assert KEY not in str(server.requests[0].headers)


async def test_a_compatible_server_with_headers_and_input_types_of_its_own():
    async with FakeOpenAI() as server:
        server.more_fields = ("input_type",)
        provider = make(
            OpenAIProvider,
            "openai",
            model="text-embedding-3-small",
            dimensions=1536,
            base_url=server.base_url,
            headers={"x-team": "search"},
            document_input_type="passage",
            query_input_type="query",
        )
        await provider.embed(TEXTS, "document")
        await provider.embed(TEXTS, "query")
        await provider.aclose()
        assert [request.json["input_type"] for request in server.requests] == ["passage", "query"]
        assert server.requests[0].headers["x-team"] == "search"
