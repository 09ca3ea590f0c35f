"""Answers that are not what was asked for: no text gets another one's vector, or one that is unfit for use."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from streamer.errors import RetriableError
from streamer.protocols import Answer, Rejection
from tests.embedding.dispatching import POISON, assert_right, dispatcher, texts
from tests.embedding.providers import DIMENSIONS, Call, FakeProvider, contract, rows

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("difference", [-1, 1, -16])
async def test_a_wrong_number_of_vectors_never_shifts_them(difference: int) -> None:
    async def behave(call: Call) -> Answer | None:
        if call.number == 0:
            return Answer(rows([*call.texts, "one more"])[: len(call.texts) + difference])
        return None

    given = texts(16)
    assert_right(given, await dispatcher(FakeProvider(behave)).embed(given, "document"))


async def test_a_text_without_a_vector_is_given_up_alone() -> None:
    async def behave(call: Call) -> Answer | None:
        return Answer(rows([text for text in call.texts if text != POISON]))

    given = [*texts(20), POISON]
    outcomes = await dispatcher(FakeProvider(behave)).embed(given, "document")
    assert_right(given[:-1], outcomes[:-1])
    assert isinstance(outcomes[-1], Rejection)
    assert outcomes[-1].kind == "invalid_vector"


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e-30, 1e30])
async def test_an_unusable_vector_is_asked_for_again_alone_then_given_up(value: float) -> None:
    async def behave(call: Call) -> Answer:
        vectors = rows(call.texts)
        for i, text in enumerate(call.texts):
            if text == POISON:
                vectors[i] = value
        return Answer(vectors)

    provider = FakeProvider(behave)
    given = texts(30)
    given[7] = POISON
    outcomes = await dispatcher(provider).embed(given, "document")
    assert_right(given[:7] + given[8:], [*outcomes[:7], *outcomes[8:]])
    assert isinstance(outcomes[7], Rejection)
    assert (outcomes[7].kind, outcomes[7].attempts) == ("invalid_vector", 3)
    assert [len(call.texts) for call in provider.calls] == [30, 1, 1]


async def test_a_vector_that_is_fine_the_second_time_is_used() -> None:
    async def behave(call: Call) -> Answer | None:
        vectors = rows(call.texts)
        if call.number == 0:
            vectors[3] = np.nan
        return Answer(vectors)

    given = texts(10)
    assert_right(given, await dispatcher(FakeProvider(behave)).embed(given, "document"))


async def test_a_poisoned_server_that_answers_zeros_is_an_outage_and_not_the_texts_fault() -> None:
    async def behave(call: Call) -> Answer | None:
        if anyio.current_time() < 600:
            return Answer(np.zeros((len(call.texts), DIMENSIONS), dtype=np.float32))
        return None

    provider = FakeProvider(behave)
    service = dispatcher(provider)
    given = texts(50)
    assert_right(given, await service.embed(given, "document"))


async def test_r2_another_dimension_pauses_everything_until_the_model_is_back() -> None:
    async def behave(call: Call) -> Answer | None:
        return Answer(rows(call.texts, DIMENSIONS + (10 <= anyio.current_time() < 1000)))

    provider = FakeProvider(behave)
    service = dispatcher(provider, contract=contract(max_items=10))
    given = texts(10)
    assert_right(given, await service.embed(given, "document"))
    await anyio.sleep(10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.embed, texts(100), "document")
        await anyio.sleep(500)
        state = service.state() or ""
        assert state.startswith("blocked: the provider rejects even a trivial text: vectors of 8 dimensions were exp")
        assert "the provider sent 9" in state
        assert "check provider.model and provider.dimensions" in state
    assert service.state() is None
    assert_right(texts(100), await service.embed(texts(100), "document"))


async def test_a_bug_in_an_adapter_is_not_swallowed() -> None:
    async def behave(call: Call) -> None:
        raise KeyError("data")

    with pytest.raises(KeyError):
        await dispatcher(FakeProvider(behave), contract=contract(max_items=2)).embed(texts(10), "document")


async def test_values_that_differ_a_little_each_time_are_fine() -> None:
    async def behave(call: Call) -> Answer:
        return Answer(rows(call.texts) * np.float32(1 + 1e-6 * call.number))

    given = texts(10)
    service = dispatcher(FakeProvider(behave))
    for _ in range(3):
        assert_right(given, await service.embed(given, "document"))


async def test_a_local_model_out_of_memory_gets_smaller_groups() -> None:
    async def behave(call: Call) -> None:
        if len(call.texts) > 64:
            raise RetriableError("out of memory")

    provider = FakeProvider(behave)
    service = dispatcher(provider, contract=contract(max_items=None, is_local=True))
    given = texts(512)
    assert_right(given, await service.embed(given, "document"))
    assert provider.most_open_calls == 1
