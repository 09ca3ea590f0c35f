"""One contract for all embedding providers, each against the strict fake of its service."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from streamer.adapters.providers.sentence_transformers import SentenceTransformersProvider
from streamer.core.vectors import Matrix, unit_rows
from streamer.embedding.answer_check import InvalidAnswer, check_answer
from streamer.errors import ProviderBlocked, RetriableError
from streamer.protocols import Provider
from tests.support.vendors import misbehaviour as bad
from tests.support.vendors import sentence_transformers as stand_in
from tests.support.vendors.limits import Limits
from tests.support.vendors.misbehaviour import Fault
from tests.support.vendors.ollama import FakeOllama
from tests.support.vendors.services import (
    SERVICES,
    TEXTS,
    assert_same,
    every_adapter,
    every_base64_service,
    every_indexed_service,
    every_service,
    failure,
    running,
)
from tests.support.vendors.vectors import vector_for

pytestmark = pytest.mark.anyio

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
    folder = stand_in.installed_model()
    if folder is None:
        pytest.skip("no sentence-transformers, or no model for it: the adapter is tried with a stand-in only")
    return folder


@pytest.mark.parametrize("purpose", ["document", "query"])
async def test_each_text_gets_its_own_vector(any_provider, purpose):
    provider, expected = any_provider
    answer = await provider.embed(TEXTS, purpose)
    assert_same(answer.vectors, expected(TEXTS, purpose))
    assert answer.vectors.shape == (len(TEXTS), provider.space.dimensions)
    backwards = await provider.embed(TEXTS[::-1], purpose)
    assert_same(backwards.vectors, expected(TEXTS[::-1], purpose))


async def test_a_single_text_is_answered_by_a_single_row(any_provider):
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
async def test_rows_go_where_their_index_says(service):
    async with running(service) as (server, provider):
        for rows in (bad.shuffled, bad.without_indices, bad.one_without_index):
            server.misbehave(Fault(rows=rows))
            answer = await provider.embed(TEXTS, "document")
            assert_same(answer.vectors, service.expected(TEXTS, "document"))


@every_indexed_service
async def test_indices_that_do_not_fit_are_not_guessed_at(service):
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=bad.duplicate_index))
        error = await failure(provider)
        assert type(error) is ProviderBlocked  # asking again does not help
        assert "each once" in str(error)


@every_service
@pytest.mark.parametrize(("rows", "came"), [(bad.short, 5), (bad.long, 7), (bad.none_at_all, 0)])
async def test_a_wrong_count_is_shown_as_it_came(service, rows, came):
    """It is for the caller to judge. Where indices say which one is missing, that one has no vector."""
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=rows))
        vectors = (await provider.embed(TEXTS, "document")).vectors
        if service.indexed and came == 5:
            assert np.isnan(vectors).all(axis=1).tolist() == [False] * 5 + [True]
        else:
            assert vectors.shape == (came, provider.space.dimensions)


@every_service
async def test_a_bad_row_does_not_spoil_the_others(service):
    async with running(service) as (server, provider):
        for rows, floats in itertools.product((bad.nan_in_first, bad.null_first, bad.zero_first), (False, True)):
            server.misbehave(Fault(rows=rows, floats=floats))
            vectors = (await provider.embed(TEXTS, "document")).vectors
            with pytest.raises(ValueError, match="row 0"):
                unit_rows(vectors)
            assert_same(vectors[1:], service.expected(TEXTS, "document")[1:])


@every_service
async def test_a_row_of_another_width_does_not_spoil_the_others(service):
    async with running(service) as (server, provider):
        server.misbehave(Fault(rows=bad.first_row_too_wide))
        vectors = (await provider.embed(TEXTS, "document")).vectors
        assert np.isnan(vectors[0]).all()
        assert_same(vectors[1:], service.expected(TEXTS, "document")[1:])


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
            try:
                answer = await provider.embed(["one"], "document")
            except RetriableError:
                continue
            # A single row of the right number: it holds nothing that the check of answers lets pass.
            with suppress(InvalidAnswer):
                assert not check_answer(answer.vectors, 1, provider.space.dimensions).is_good.any(), shape


@every_adapter
async def test_an_answer_without_usage_is_an_answer(service):
    async with running(service) as (server, provider):
        for usage in (None, 3, {}, {"total_tokens": "many"}, {"total_tokens": None}):
            body: Any = {"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": usage}
            if not service.indexed:
                rows = [[0.6, 0.8]]
                body = {"id": "", "embeddings": rows if service.fake is FakeOllama else {"float": rows}, "meta": usage}
            server.misbehave(Fault(body=json.dumps(body).encode()))
            answer = await provider.embed(["one"], "document")
            np.testing.assert_array_equal(answer.vectors, np.array([[0.6, 0.8]], dtype=np.float32))
            assert answer.billed_tokens is None
