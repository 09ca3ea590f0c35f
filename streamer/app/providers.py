"""The provider that the settings want: which model at whom, by which ways, and what its contract is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import structlog

from streamer.adapters.projection_file import load_projection
from streamer.adapters.providers.connection import HttpConnection
from streamer.core.vectors import Space
from streamer.core.vendors import VENDORS, calls_at_once, is_of_vendor
from streamer.embedding.contracts import Contract, contract_for, is_known
from streamer.embedding.fallback import Fallback
from streamer.embedding.provider_calls import LONGEST_TIMEOUT
from streamer.embedding.reduction import Reduced
from streamer.errors import ConfigurationError
from streamer.protocols import Provider
from streamer.settings import ProviderSettings, Settings

log = structlog.get_logger("streamer")

LOCAL_BATCHES = 2  # one in the model, one being read from the cache
UNLIMITED = 2**31  # tokens; longer than any text
OLLAMA_LOAD_SECONDS = 300.0  # for the first answer, while the server reads the model from disk


@dataclass(frozen=True, slots=True)
class OpenProvider:
    """A provider ready for calls, what it demands and promises, the seconds that a call may take at first, and the
    model's tokenizer if there is one in this process."""

    provider: Provider
    contract: Contract
    timeout: float
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None


@asynccontextmanager
async def open_provider(settings: Settings, own: Provider | None = None) -> AsyncIterator[OpenProvider]:
    """All ways to the model behind one provider, with its vectors reduced if the settings say so.

    `own`: the user's provider object, in place of the provider that the settings name; it is closed at the end. Raises
    ConfigurationError for a model that is not known well enough and for a way to another model.
    """
    contract = contract_of(settings) if own is None else contract_of_own(own, settings)
    ways: list[Provider] = [] if own is None else [own]
    try:
        for name, wanted in ways_of(settings) if own is None else ():
            if (other := contract_of(wanted)) != contract:
                raise ConfigurationError(
                    f"provider.{name}: {other.provider} {other.model} cannot stand in for {contract.provider} "
                    f"{contract.model}: another model is another vector space"
                )
            try:
                ways.append(await make_provider(wanted, contract))
            except ConfigurationError as exc:
                raise ConfigurationError(f"provider.{name}: {exc}" if name else str(exc)) from exc
        first = ways[0]
        provider = Fallback(ways) if len(ways) > 1 else first
        if (path := settings.provider.reduction) is not None:
            provider = Reduced(provider, load_projection(path), matryoshka=contract.matryoshka)
        native = contract.dimensions if is_known(contract.provider, contract.model) else None
        contract = replace(contract, dimensions=provider.space.dimensions, native_dimensions=native)
        if contract.is_local:
            contract = replace(contract, max_item_tokens=first.space.max_tokens)
        timeout = settings.provider.timeout_seconds
        if contract.provider == "ollama":
            timeout = max(timeout, OLLAMA_LOAD_SECONDS)
        yield OpenProvider(provider, contract, timeout, getattr(first, "count_tokens", None))
    finally:
        with anyio.CancelScope(shield=True):
            for way in ways:
                await way.aclose()


def contract_of(settings: Settings) -> Contract:
    """What the model demands and promises. Raises ConfigurationError for an unknown model without explicit values."""
    wanted = settings.provider
    model = wanted.model or VENDORS[wanted.name].default_model
    if not model:
        raise ConfigurationError(f"provider.model: {wanted.name} comes without a model; name the folder of one")
    explicit: dict[str, Any] = {
        "matryoshka": wanted.matryoshka,
        "max_item_tokens": wanted.max_item_tokens,
        "max_items": wanted.max_items,
        "max_request_tokens": wanted.max_request_tokens,
        "document_input_type": wanted.input_type,
        "query_input_type": wanted.query_input_type,
        "document_prefix": wanted.document_prefix,
        "query_prefix": wanted.query_prefix,
    }
    if not is_known(wanted.name, model):
        explicit["dimensions"] = wanted.dimensions
        if VENDORS[wanted.name].is_local:  # it says itself, once it is loaded, how long its vectors and its context are
            explicit |= {"dimensions": wanted.dimensions or 1, "max_item_tokens": wanted.max_item_tokens or 1}
    return contract_for(wanted.name, model, **explicit)


def contract_of_own(provider: Provider, settings: Settings) -> Contract:
    """What is known of a provider object: its space, and the limits in the settings."""
    space, wanted = provider.space, settings.provider
    return Contract(
        provider=space.provider,
        model=space.model,
        dimensions=space.dimensions,
        max_item_tokens=wanted.max_item_tokens or space.max_tokens or UNLIMITED,
        max_items=wanted.max_items or settings.batch.max_events,
        max_request_tokens=wanted.max_request_tokens,
        limits=(),
    )


def batches_at_once(settings: Settings, contract: Contract) -> int:
    """How many micro-batches may embed at the same time."""
    limit = LOCAL_BATCHES if contract.is_local else calls_at_once(contract.provider)
    return settings.provider.max_concurrent_requests or limit


def ways_of(settings: Settings) -> list[tuple[str, Settings]]:
    """The settings of each way to the model, by its name in the settings: "" for the first."""
    first = settings.provider
    alone = settings.model_copy(update={"provider": first.model_copy(update={"fallback": []})})
    ways = [("", alone)]
    for i, entry in enumerate(first.fallback):
        # A key is not sent to another host than it was given for.
        inherited = (
            {} if entry.base_url is None else dict.fromkeys(("api_key", "azure_api_version", "azure_deployment"))
        )
        if entry.base_url is not None:
            inherited["headers"] = {}
        own = {name: getattr(entry, name) for name in type(entry).model_fields if name != "api_key_env"}
        changes = inherited | {name: value for name, value in own.items() if value}
        if entry.name and entry.name != first.name:
            changes.setdefault("model", None)
        provider = first.model_copy(update={**changes, "fallback": []})
        ways.append((f"fallback.{i}", settings.model_copy(update={"provider": provider})))
    return ways


async def make_provider(settings: Settings, contract: Contract) -> Provider:
    """The adapter for this provider; imports its vendor's package, hence MissingExtra when that is absent."""
    wanted = settings.provider
    if VENDORS[wanted.name].is_local:
        return await _local(settings, contract)
    space = remote_space(settings, contract)
    _check_environment(wanted)
    connection = HttpConnection(
        api_key=wanted.api_key.get_secret_value() if wanted.api_key else None,
        base_url=wanted.base_url,
        # The dispatcher keeps the time, and gives a call more of it where it ran out.
        timeout_seconds=wanted.timeout_seconds * LONGEST_TIMEOUT,
        max_connections=wanted.max_concurrent_requests or VENDORS[wanted.name].concurrency,
    )
    request_dimensions = wanted.dimensions is not None and bool(contract.allowed_dimensions)
    if wanted.name == "ollama":
        from streamer.adapters.providers.ollama import OllamaProvider

        return OllamaProvider(
            space,
            # Only the adapter knows whether the model has been loaded, and how long an answer may take therefore.
            replace(connection, timeout_seconds=wanted.timeout_seconds),
            load_timeout_seconds=OLLAMA_LOAD_SECONDS,
            request_dimensions=request_dimensions,
            keep_alive=wanted.keep_alive,
        )
    if wanted.name == "cohere":
        from streamer.adapters.providers.cohere import CohereProvider

        return CohereProvider(space, connection, request_dimensions=request_dimensions)
    if wanted.name == "voyage":
        from streamer.adapters.providers.voyage import VoyageProvider

        return VoyageProvider(space, connection, request_dimensions=request_dimensions)
    if wanted.name == "openai":
        from streamer.adapters.providers.openai import OpenAIProvider

        return OpenAIProvider(
            space,
            connection,
            request_dimensions=request_dimensions,
            azure_api_version=wanted.azure_api_version,
            azure_deployment=wanted.azure_deployment,
            headers={name: value.get_secret_value() for name, value in wanted.headers.items()},
            encoding_format=wanted.encoding_format,
        )
    raise AssertionError(f"no adapter for {wanted.name!r}. This is a bug.")


def remote_space(settings: Settings, contract: Contract) -> Space:
    """The space of a model at a service, before any reduction. That of a model in this process only the model knows."""
    return Space(
        provider=contract.provider,
        model=contract.model,
        dimensions=contract.dimensions_for(settings.provider.dimensions),
        document_prefix=contract.document_prefix,
        query_prefix=contract.query_prefix,
        document_input_type=contract.document_input_type,
        query_input_type=contract.query_input_type,
        on_too_long=settings.input.on_too_long,
        max_tokens=contract.max_item_tokens,
    )


def _check_environment(wanted: ProviderSettings) -> None:
    """Say which key is not sent, and refuse an address that the vendor's client would take from the environment."""
    variable = VENDORS[wanted.name].key_variable
    if wanted.base_url is None:
        other = os.environ.get("OPENAI_BASE_URL", "")
        if wanted.name == "openai" and other and not is_of_vendor("openai", other):
            raise ConfigurationError(
                "OPENAI_BASE_URL is set, and the space would not know of it; set provider.base_url instead, and "
                'provider.api_key_env = "OPENAI_API_KEY" if that key is for it'
            )
    elif wanted.api_key is None and os.environ.get(variable) and not is_of_vendor(wanted.name, wanted.base_url):
        log.info(
            "a key is not sent to this server, which it may not be meant for",
            variable=variable,
            server=urlsplit(wanted.base_url).hostname,
            remedy=f'provider.api_key_env = "{variable}"',
        )


async def _local(settings: Settings, contract: Contract) -> Provider:
    wanted = settings.provider
    if is_known(wanted.name, contract.model):
        contract.dimensions_for(wanted.dimensions)
    options: dict[str, Any] = {
        "model": contract.model,
        "on_too_long": settings.input.on_too_long,
        "dimensions": wanted.dimensions,
        "request_dimensions": contract.matryoshka,
    }
    prefixes: dict[str, Any] = {"document_prefix": contract.document_prefix, "query_prefix": contract.query_prefix}
    if wanted.name == "onnx":
        from streamer.adapters.providers.onnx import OnnxProvider

        return await OnnxProvider.open(**options, **prefixes, threads=wanted.threads, precision=wanted.precision)
    if wanted.name == "static":
        from streamer.adapters.providers.static import StaticProvider

        return await StaticProvider.open(**options, **prefixes)
    from streamer.adapters.providers.sentence_transformers import SentenceTransformersProvider

    options |= {name: prefix or None for name, prefix in prefixes.items()}
    options |= {"device": wanted.device, "torch_threads": wanted.threads or 0}
    return await anyio.to_thread.run_sync(partial(SentenceTransformersProvider, **options))
