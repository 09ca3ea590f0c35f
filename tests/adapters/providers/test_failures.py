"""What embedding providers do when the service, the network or the settings are wrong: one contract for all."""

from __future__ import annotations

import gc
import logging
import socket
import traceback

import anyio
import pytest

from streamer.adapters.providers.ollama import OllamaProvider
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError, StreamerError
from tests.support.vendors import misbehaviour as bad
from tests.support.vendors.limits import Limits
from tests.support.vendors.misbehaviour import Fault, refusal
from tests.support.vendors.ollama import FakeOllama
from tests.support.vendors.openai import FakeAzureOpenAI
from tests.support.vendors.services import (
    KEY,
    SERVICES,
    TEXTS,
    assert_same,
    every_adapter,
    failure,
    make,
    running,
)
from tests.support.vendors.voyage import FakeVoyage

pytestmark = pytest.mark.anyio


def every(kind: type[StreamerError], *statuses: int) -> list[tuple[Fault, type[StreamerError]]]:
    return [(refusal(status), kind) for status in statuses]


MEANINGS = [
    *every(RetriableError, 408, 409, 425, 500, 502, 503, 504, 529),
    *every(ProviderBlocked, 301, 401, 402, 403, 404, 405, 498),
    *every(RejectedError, 400, 413, 418, 422),
    *every(RateLimited, 429),
    (bad.RESET, RetriableError),
    (bad.CUT, RetriableError),
    (bad.INVALID_JSON, RetriableError),
    (bad.HTML, RetriableError),
    (bad.EMPTY_BODY, RetriableError),
    (bad.GZIP_GARBAGE, RetriableError),
    (Fault(status=502, body=b"<html>Bad</html>", content_type="text/html"), RetriableError),
    (Fault(status=400, body=b"<html>Bad</html>", content_type="text/html"), RejectedError),
]


@every_adapter
async def test_what_a_failure_means(service):
    """And that it leaves nothing behind: the next call is an ordinary one, and the next failure means what it says."""
    async with running(service) as (server, provider):
        for fault, kind in MEANINGS:
            server.misbehave(fault)
            before = len(server.requests)
            error = await failure(provider)
            assert type(error) is kind, fault
            assert len(server.requests) == before + 1, fault  # nobody below us tries again
            found = (await provider.embed(TEXTS[:2], "document")).vectors
            assert_same(found, service.expected(TEXTS[:2], "document"))


@pytest.mark.parametrize("name", ["openai", "azure", "cohere"])  # the others have no answer of their own for it
async def test_an_exhausted_quota_is_not_a_rate(name):
    async with running(SERVICES[name]) as (server, provider):
        server.misbehave(refusal(429, "insufficient_quota"))
        assert type(await failure(provider)) is ProviderBlocked


WAITS = [
    (refusal(429), None),
    (refusal(429, retry_after="3"), 3.0),
    (refusal(429, retry_after="0.25"), 0.25),
    (refusal(429, retry_after="2", retry_after_ms="1500"), 1.5),
    (refusal(429, retry_after="86400"), 86400.0),
    (bad.rate_limited_until(7), 7.0),
    (bad.rate_limited_until(-7), 0.0),
    (refusal(429, retry_after="soon"), None),
    (refusal(429, retry_after="-1"), None),
    (refusal(429, retry_after="nan"), None),
    (refusal(503, retry_after="12"), 12.0),
]


@every_adapter
async def test_how_long_the_service_asks_to_wait(service):
    async with running(service) as (server, provider):
        for fault, seconds in WAITS:
            server.misbehave(fault)
            error = await failure(provider)
            assert isinstance(error, RetriableError), fault
            assert error.retry_after == seconds, fault


@every_adapter
@pytest.mark.parametrize(
    "limits",
    [Limits(requests=2), Limits(items=2 * len(TEXTS)), Limits(tokens=30)],
    ids=["requests", "items", "tokens"],
)
async def test_a_limit_is_told_apart_from_a_failure(service, limits):
    async with running(service, limits=limits) as (_, provider):
        await provider.embed(TEXTS, "document")
        await provider.embed(TEXTS, "document")
        error = await failure(provider)
        assert isinstance(error, RateLimited)
        assert error.retry_after is not None


@every_adapter
async def test_a_text_beyond_the_context_is_refused_as_too_long(service):
    async with running(service, on_too_long="reject") as (_, provider):
        longest, longer = "abcd" * service.longest, "abcd" * service.longest + "e"
        await provider.embed([longest], "document")
        error = await failure(provider, ["short", longer])
        assert isinstance(error, RejectedError)
        assert error.kind == "too_long"


@every_adapter
async def test_a_service_that_cuts_does_so_only_when_asked(service):
    async with running(service, on_too_long="truncate") as (_, provider):
        longer = ["abcd" * service.longest + "e"]
        if service.indexed and service.fake is not FakeVoyage:
            assert isinstance(await failure(provider, longer), RejectedError)  # OpenAI never cuts
        else:
            assert (await provider.embed(longer, "document")).billed_tokens == service.longest


@every_adapter
async def test_an_empty_text_gets_a_vector_or_a_rejection_of_its_own(service):
    async with running(service) as (_, provider):
        if service.takes_empty:
            assert_same((await provider.embed(["", "a"], "document")).vectors, service.expected(["", "a"], "document"))
        else:
            error = await failure(provider, ["", "a"])
            assert isinstance(error, RejectedError)
            assert error.kind == "rejected"


@every_adapter
async def test_one_unacceptable_text_is_the_texts_fault(service):
    async with running(service) as (server, provider):
        server.poison = {"poison"}
        assert type(await failure(provider, ["good", "poison"])) is RejectedError
        await provider.embed(["good"], "document")


@every_adapter
@pytest.mark.parametrize("options", [{"api_key": "sk-wrong-key"}, {"model": "no-such-model"}], ids=["key", "model"])
async def test_a_wrong_account_blocks_and_loses_nothing(service, options):
    if service.fake is FakeAzureOpenAI and "model" in options:
        options = {"azure_deployment": "no-such-deployment"}
    async with running(service, **options) as (_, provider):
        assert type(await failure(provider)) is ProviderBlocked


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("openai", {"model": "text-embedding-ada-002", "request_dimensions": True}),
        ("openai", {"dimensions": 5000, "request_dimensions": True}),
        ("cohere", {"request_dimensions": True}),
        ("cohere, shortened", {"dimensions": 123}),
        ("cohere", {"document_input_type": "essay"}),
        ("voyage", {"dimensions": 256, "request_dimensions": True}),
        ("voyage", {"document_input_type": "essay"}),
    ],
)
async def test_wrong_settings_are_not_the_texts_fault(name, options):
    """Were they, every text of the stream would end as a dead letter."""
    async with running(SERVICES[name], **options) as (_, provider):
        assert type(await failure(provider)) is ProviderBlocked


async def test_a_busy_ollama_slows_us_down():
    async with running(SERVICES["ollama"]) as (server, provider):
        assert isinstance(server, FakeOllama)
        server.most_waiting = 0
        assert type(await failure(provider)) is RateLimited


# Time, connections, secrets -------------------------------------------------------------------------------------------


@every_adapter
@pytest.mark.parametrize("fault", [bad.HANG, bad.DRIP], ids=["hangs", "drips"])
async def test_a_call_has_an_end(service, fault):
    async with running(service, timeout_seconds=0.2) as (server, provider):
        server.misbehave(fault)
        error = await failure(provider)
        assert type(error) is RetriableError
        assert "did not answer within 0.2 s" in str(error) or "Timeout" in str(error)


async def test_ollama_may_take_its_time_to_load_the_model():
    async with FakeOllama(key=KEY) as server:
        provider = make(
            OllamaProvider,
            "ollama",
            model="nomic-embed-text",
            dimensions=768,
            api_key=KEY,
            base_url=server.base_url,
            timeout_seconds=0.1,
            load_timeout_seconds=30,
        )
        loading = Fault(delay=0.3)
        server.misbehave(loading)
        await provider.embed(TEXTS, "document")
        server.misbehave(bad.HANG)
        assert type(await failure(provider)) is RetriableError  # it is loaded: this is something else
        server.misbehave(loading)
        await provider.embed(TEXTS, "document")  # or it was dropped meanwhile, and is loading again
        await provider.aclose()


@every_adapter
async def test_a_service_that_is_not_there_is_tried_again(service):
    async with service.fake(key=KEY) as server:
        provider = service.make(server)
    error = await failure(provider)
    assert type(error) is RetriableError
    await provider.aclose()


@every_adapter
async def test_a_server_that_does_not_speak_tls(service):
    async with service.fake(key=KEY) as server:
        provider = service.make(server, base_url=server.base_url.replace("http:", "https:"))
        assert type(await failure(provider)) is RetriableError
        await provider.aclose()


@every_adapter
async def test_a_name_that_does_not_resolve(service, monkeypatch):
    def nowhere(*address: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with running(service, base_url="http://embeddings.invalid/v1") as (_, provider):
        monkeypatch.setattr(socket, "getaddrinfo", nowhere)
        assert type(await failure(provider)) is RetriableError


@every_adapter
async def test_one_pool_of_connections_is_shared_and_kept(service):
    async with running(service, max_connections=3) as (server, provider):
        server.latency = lambda number: 0.01
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(provider.embed, TEXTS, "document")
        assert server.connections == 3
        assert server.most_in_flight == 3
        await provider.embed(TEXTS, "document")
        assert server.connections == 3


@every_adapter
async def test_a_cancelled_call_leaves_the_pool_usable(service):
    async with running(service, max_connections=1) as (server, provider):
        server.misbehave(bad.HANG)
        async with anyio.create_task_group() as group:
            group.start_soon(provider.embed, TEXTS, "document")
            await server.received(1)
            group.cancel_scope.cancel()
        assert_same((await provider.embed(TEXTS, "document")).vectors, service.expected(TEXTS, "document"))


@every_adapter
async def test_closing_leaves_nothing_open(service, recwarn):
    async with running(service) as (_, provider):
        await provider.embed(TEXTS, "document")
    del provider
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


@every_adapter
async def test_the_key_is_shown_nowhere(service, caplog):
    caplog.set_level(logging.DEBUG)
    shown = []

    def show(error: Exception) -> None:
        shown.extend([str(error), repr(error), "".join(traceback.format_exception(error))])

    async with running(service) as (server, provider):
        shown.append(repr(provider) + repr(vars(provider)))
        for fault in (
            *(refusal(status, "echo") for status in (400, 401, 403, 404, 413, 422, 429, 500, 503)),
            *(bad.RESET, bad.CUT, bad.HTML, bad.GZIP_GARBAGE),
            Fault(status=500, body=f"<html>{KEY}</html>".encode(), content_type="text/html"),
            Fault(body=f'{{"data": "{KEY}"}}'.encode()),
        ):
            server.misbehave(fault)
            show(await failure(provider))
        await provider.embed(TEXTS, "document")
    async with running(service, timeout_seconds=0.2) as (server, provider):
        server.misbehave(bad.HANG)
        show(await failure(provider))
    assert KEY not in "".join(shown)
    assert KEY not in caplog.text


async def test_the_half_of_a_key_that_a_vendor_shows_is_not_shown_either():
    async with running(SERVICES["openai"], api_key="sk-other-key-9876543210") as (_, provider):
        message = str(await failure(provider))
        assert "Incorrect API key provided: [redacted]" in message
        assert "3210" not in message
