"""The dispatcher against scripted providers, on a virtual clock: texts to requests, and vectors back to their texts."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from streamer.errors import RejectedError
from streamer.protocols import Answer, Embedder, Embedding
from tests.embedding.dispatching import assert_right, dispatcher, texts
from tests.embedding.providers import DIMENSIONS, Call, FakeProvider, contract, rows, space, vector_of

pytestmark = pytest.mark.anyio


async def test_no_texts_need_no_call() -> None:
    provider = FakeProvider()
    service: Embedder = dispatcher(provider)
    assert service.space is provider.space
    assert list(await service.embed([], "document")) == []
    assert provider.calls == []


async def test_each_text_gets_its_own_vector() -> None:
    provider = FakeProvider()
    given = texts(5000)
    assert_right(given, await dispatcher(provider).embed(given, "document"))
    assert [len(call.texts) for call in provider.calls] == [1667, 1667, 1666]


async def test_ten_thousand_short_texts_take_the_fewest_requests() -> None:
    provider = FakeProvider()
    await dispatcher(provider, contract=contract(max_request_tokens=300_000)).embed(texts(10_000), "document")
    assert len(provider.calls) == 5


async def test_more_than_a_request_holds_is_split_before_sending() -> None:
    async def behave(call: Call) -> None:
        if sum(len(text) for text in call.texts) > 300_000:
            raise RejectedError("too many tokens")

    provider = FakeProvider(behave)
    given = ["x" * 7000 + str(i) for i in range(100)]
    service = dispatcher(provider, contract=contract(max_request_tokens=300_000))
    assert_right(given, await service.embed(given, "document"))
    assert len(provider.calls) == 3
    assert service.statistics().retries_total == 0


async def test_requests_of_one_batch_go_out_side_by_side_within_the_concurrency() -> None:
    provider = FakeProvider(latency=1.0)
    await dispatcher(provider, contract=contract(max_items=10), concurrency=4).embed(texts(120), "document")
    assert provider.most_open_calls == 4
    assert anyio.current_time() == pytest.approx(3.0, abs=0.1)


async def test_a_local_model_gets_everything_at_once_and_one_call_at_a_time() -> None:
    provider = FakeProvider(latency=1000.0)
    service = dispatcher(provider, contract=contract(max_items=None, is_local=True))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.embed, texts(3000), "document")
        tasks.start_soon(service.embed, texts(3000), "document")
    assert [len(call.texts) for call in provider.calls] == [3000, 3000]
    assert provider.most_open_calls == 1


async def test_reports_of_usage_let_later_requests_hold_more() -> None:
    async def behave(call: Call) -> Answer:
        return Answer(rows(call.texts), billed_tokens=sum(len(text) for text in call.texts) // 4)

    provider = FakeProvider(behave)
    service = dispatcher(provider, contract=contract(max_request_tokens=10_000))
    given = ["word " * 50 + str(i) for i in range(400)]
    await service.embed(given, "document")
    first = len(provider.calls)
    await service.embed(given, "document")
    assert first == 11
    assert len(provider.calls) - first == 3


async def test_vectors_longer_than_the_space_are_cut_if_the_model_is_trained_for_that() -> None:
    async def behave(call: Call) -> Answer:
        return Answer(rows(call.texts, DIMENSIONS))

    provider = FakeProvider(behave, space=space(dimensions=4))
    [outcome] = await dispatcher(provider, contract=contract(matryoshka=True)).embed(["a"], "document")
    assert isinstance(outcome, Embedding)
    expected = vector_of("a")[:4]
    np.testing.assert_allclose(outcome.vector, expected / np.linalg.norm(expected), atol=1e-6)


async def test_tokens_are_those_that_the_provider_tells() -> None:
    async def behave(call: Call) -> Answer:
        count = len(call.texts)
        return Answer(rows(call.texts), tokens=list(range(1, count + 1)), truncated=[False] * count)

    service = dispatcher(FakeProvider(behave))
    outcomes = await service.embed(texts(3), "document")
    assert [outcome.tokens for outcome in outcomes if isinstance(outcome, Embedding)] == [1, 2, 3]
    assert service.statistics().tokens_total == 6
