"""EmbeddingService: the worker's planning, limits, cache and checks, as a Python program meets them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import streamer
from streamer.errors import ConfigurationError, ProviderBlocked, RetriableError
from streamer.protocols import Embedding, Rejection
from streamer.service import EmbeddingService, TextsRejected
from streamer.settings import Settings
from tests.support.vendors.limits import Limits
from tests.support.vendors.misbehaviour import HANG, refusal
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY, assert_same
from tests.support.vendors.voyage import FakeVoyage

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache's file and settings lie where a program is started."""
    monkeypatch.chdir(tmp_path)


def service_of(server: FakeOpenAI | FakeVoyage, **overrides: Any) -> EmbeddingService:
    name = "voyage" if isinstance(server, FakeVoyage) else "openai"
    return EmbeddingService(**{"provider": name, "base_url": server.base_url, "api_key": KEY} | overrides)


def texts_sent(server: FakeOpenAI) -> list[str]:
    return [text for request in server.requests for text in request.json["input"]]


async def test_the_real_model_as_in_the_example() -> None:
    async with EmbeddingService(provider="onnx") as service:
        matrix = await service.embed_batch(["a cat sat on the mat", "stocks fell sharply", "a kitten lay on the rug"])
        assert matrix.dtype == np.float32
        assert matrix.shape == (3, service.dimensions) == (3, 384)
        np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-6)
        assert_same(matrix[1][None], (await service.embed("stocks fell sharply"))[None])
        assert await service.similarity("a cat", "a kitten") > await service.similarity("a cat", "stocks fell")
        found = await service.find_most_similar("a small cat", ["shares", "a kitten", "a cat", "rain"], k=2)
        assert {match.text for match in found} == {"a cat", "a kitten"}
        assert [match.similarity for match in found] == sorted((m.similarity for m in found), reverse=True)
        assert all(match.text == ["shares", "a kitten", "a cat", "rain"][match.index] for match in found)


async def test_every_text_gets_its_own_vector_and_is_paid_for_once() -> None:
    texts = [f"text {i % 700}" for i in range(1000)]
    async with FakeOpenAI(key=KEY) as server:
        async with service_of(server) as service:
            assert_same(await service.embed_batch(texts), server.expected(texts))
            assert sorted(texts_sent(server)) == sorted(set(texts))
        async with service_of(server) as again:
            assert_same(await again.embed_batch(texts[::-1]), server.expected(texts[::-1]))
            assert await again.embed_batch([]) is not None
        assert len(texts_sent(server)) == 700


@pytest.mark.slow
async def test_ten_thousand_short_texts_take_the_fewest_requests() -> None:
    texts = [f"short text number {i}" for i in range(10_000)]
    async with FakeOpenAI(key=KEY) as server, service_of(server, cache__enabled=False) as service:
        matrix = await service.embed_batch(texts)
        assert len(server.requests) == 5  # of 2,048 at most
        assert_same(matrix[::1000], server.expected(texts[::1000]))


async def test_more_tokens_than_a_request_may_hold_are_split_before_sending() -> None:
    texts = [f"{i} " + "word " * 3_000 for i in range(90)]  # 340,000 tokens as this server counts
    async with FakeOpenAI(key=KEY) as server, service_of(server, cache__enabled=False) as service:
        assert_same(await service.embed_batch(texts), server.expected(texts))
        assert server.statuses == [200] * len(server.requests)


async def test_queries_and_documents_differ_where_the_model_tells_them_apart() -> None:
    async with FakeVoyage(key=KEY) as server, service_of(server) as service:
        assert_same((await service.embed_query("what"))[None], server.expected(["what"], "query"))
        assert_same((await service.embed("what"))[None], server.expected(["what"], "document"))


async def test_texts_without_a_vector_are_named_by_their_place() -> None:
    async with FakeOpenAI(key=KEY) as server, service_of(server) as service:
        server.poison = {"poison"}
        with pytest.raises(
            TextsRejected, match=r"2 of 4 texts have no vector; text 1: rejected, .*not acceptable"
        ) as caught:
            await service.embed_batch(["a", "poison", "b", "  "])
        assert {place: rejection.kind for place, rejection in caught.value.rejections.items()} == {
            1: "rejected",
            3: "empty_text",
        }
        assert [type(outcome) async for _, outcome in service.stream(["a", "poison"])] == [Embedding, Rejection]
        before = len(server.requests)
        assert_same(await service.embed_batch(["a", "b"]), server.expected(["a", "b"]))
        assert len(server.requests) == before  # the others were kept


async def test_what_is_no_text_is_refused() -> None:
    async with EmbeddingService(cache__enabled=False) as service:
        with pytest.raises(TypeError, match="not one string"):
            await service.embed_batch("text")
        with pytest.raises(TypeError, match="not NoneType"):
            await service.embed_batch(["text", None])  # type: ignore[list-item]


async def test_a_stream_of_any_length_is_read_as_it_is_needed() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        for read in itertools.count(1):
            yield f"text {read}"

    async with FakeOpenAI(key=KEY) as server, service_of(server, max_items=10) as service:
        server.latency = lambda number: 0.01
        taken: list[str] = []
        async with aclosing(service.stream(endless())) as outcomes:
            async for text, outcome in outcomes:
                assert isinstance(outcome, Embedding)
                assert_same(outcome.vector[None], server.expected([text]))
                taken.append(text)
                if len(taken) == 205:
                    break
        assert taken == [f"text {i}" for i in range(1, 206)]
        assert 205 <= read <= 205 + 100
        assert server.most_in_flight > 1


async def test_order_is_kept_when_answers_come_out_of_order() -> None:
    texts = [f"text {i}" for i in range(60)]
    async with FakeOpenAI(key=KEY) as server, service_of(server, max_items=5) as service:
        server.latency = lambda number: 0.05 * (number % 3 == 0)
        assert_same(await service.embed_batch(texts), server.expected(texts))


async def test_leaving_a_stream_ends_what_it_began() -> None:
    async with FakeOpenAI(key=KEY) as server, service_of(server, max_items=1) as service:
        server.misbehave(refusal(500))
        server.always = HANG
        with anyio.move_on_after(0.2):
            await service.embed_batch(["a", "b", "c"])
        server.always = refusal(200)
        assert_same(await service.embed_batch(["a", "b", "c"]), server.expected(["a", "b", "c"]))


@pytest.mark.parametrize(
    ("fault", "says"),
    [(refusal(401), "check the API key"), (refusal(429, "insufficient_quota"), "used up its quota")],
    ids=["wrong key", "no quota"],
)
async def test_a_blocked_account_is_told_at_once_to_everybody(fault: Any, says: str) -> None:
    async with FakeOpenAI(key=KEY) as server, service_of(server) as service:
        server.always = fault
        for text in ("first", "second"):
            with pytest.raises(ProviderBlocked, match=says):
                await service.embed(text)
        assert len(server.requests) == 1  # the second is not even sent
        assert (service.state() or "").startswith("blocked: ")


@pytest.mark.slow
async def test_an_outage_is_waited_out_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeOpenAI(key=KEY) as server:
        async with service_of(server) as service:
            server.misbehave(refusal(503))
            assert_same((await service.embed("a"))[None], server.expected(["a"]))
        server.always = refusal(503)
        monkeypatch.setattr("streamer.service.PATIENCE_SECONDS", 1.0)
        async with service_of(server) as service:
            with pytest.raises(RetriableError, match="503"):
                await service.embed("b")


async def test_no_more_requests_are_made_than_the_limit_allows() -> None:
    limits = Limits(requests=5, window_seconds=60)
    async with FakeOpenAI(key=KEY, limits=limits) as server:
        async with (
            service_of(server, requests_per_minute=5, max_items=1) as service,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(service.embed_batch, [f"text {i}" for i in range(20)])
            with anyio.fail_after(30):
                await server.received(1)
            await anyio.sleep(0.5)  # in which the others would come
            tasks.cancel_scope.cancel()
        assert 0 < len(server.requests) <= 5
        assert 429 not in server.statuses


async def test_settings_from_a_file_an_object_and_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOYAGE_API_KEY", "of voyage")
    (tmp_path / "streamer.toml").write_text('[provider]\nname = "openai"\napi_key = "of openai"\nmodel = "m"\n')
    settings = EmbeddingService(dimensions=8).settings
    assert (settings.provider.name, settings.provider.model, settings.provider.dimensions) == ("openai", "m", 8)
    given = Settings.model_validate(
        {"provider": {"name": "openai", "api_key": "of openai"}, "batch": {"max_events": 7}}
    )
    settings = EmbeddingService(given, provider="voyage", input__on_too_long="chunk").settings
    assert (settings.batch.max_events, settings.input.on_too_long, settings.provider.model) == (7, "chunk", None)
    assert settings.provider.api_key is not None
    assert settings.provider.api_key.get_secret_value() == "of voyage"  # a key is not sent to another vendor
    with pytest.raises(ConfigurationError, match=r"modle=.*known are provider, section__key"):
        EmbeddingService(modle="x")
    with pytest.raises(ConfigurationError, match=r"unknown key cache\.pth"):
        EmbeddingService(cache__pth="x")


async def test_a_service_is_used_while_open_and_can_be_opened_again(tmp_path: Path) -> None:
    service = EmbeddingService(cache__path=tmp_path / "mine.sqlite")
    with pytest.raises(RuntimeError, match="open the EmbeddingService first"):
        await service.embed("a")
    for _ in range(2):
        async with service:
            await service.embed("a")
            with pytest.raises(RuntimeError, match="open already"):
                await service.__aenter__()
    with pytest.raises(ZeroDivisionError):  # as itself, not in a group
        async with service:
            raise ZeroDivisionError
    assert (tmp_path / "mine.sqlite").exists()


def test_the_package_offers_it() -> None:
    assert streamer.EmbeddingService is EmbeddingService
    assert all(hasattr(streamer, name) for name in streamer.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        streamer.nonsense  # noqa: B018
    np.testing.assert_allclose(streamer.normalize([[3.0, 4.0]]), [[0.6, 0.8]], rtol=1e-6)
