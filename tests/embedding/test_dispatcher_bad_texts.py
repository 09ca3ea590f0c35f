"""Texts that a provider refuses or fails at: they are found, and cost no other text its vector."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import anyio
import pytest

from streamer.errors import RejectedError, RetriableError
from streamer.protocols import Embedding, Rejection
from tests.embedding.dispatching import POISON, assert_right, dispatcher, refusing, texts
from tests.embedding.providers import Call, FakeProvider

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("count", [2, 17, 512, 2048])
async def test_one_poisonous_text_is_found_in_about_two_log_n_calls(count: int) -> None:
    provider = FakeProvider(refusing(POISON))
    service = dispatcher(provider)
    given = texts(count)
    given[count // 3] = POISON
    outcomes = await service.embed(given, "document")
    poisoned = outcomes[count // 3]
    assert isinstance(poisoned, Rejection)
    assert (poisoned.kind, poisoned.reason) == ("rejected", "bad input")
    assert poisoned.attempts <= log2(count) + 2
    rest = [i for i in range(count) if i != count // 3]
    assert_right([given[i] for i in rest], [outcomes[i] for i in rest])
    assert len(provider.calls) <= 2 * log2(count) + 3
    assert service.statistics().rejected_total == 1


async def test_several_poisonous_texts_are_found_and_no_others() -> None:
    provider = FakeProvider(refusing("p1", "p2", "p3"))
    given = [*texts(50), "p1", *texts(50), "p2", "p3"]
    outcomes = await dispatcher(provider).embed(given, "document")
    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)] == [50, 101, 102]


async def test_the_kind_is_the_providers() -> None:
    async def behave(call: Call) -> None:
        if {"", "x"} & set(call.texts):
            raise RejectedError("no text in it", kind="empty_text" if call.texts == [""] else "rejected")

    outcomes = await dispatcher(FakeProvider(behave)).embed(["", "x"], "document")
    assert [outcome.kind for outcome in outcomes if isinstance(outcome, Rejection)] == ["empty_text", "rejected"]


def test_a_kind_that_is_not_documented_is_refused() -> None:
    with pytest.raises(ValueError, match="'strange' is not a dead-letter kind; known are: undecodable, "):
        RejectedError("no text in it", kind="strange")  # type: ignore[arg-type]


async def test_a_text_that_makes_the_provider_fail_is_found_and_costs_no_other_text() -> None:
    provider = FakeProvider(refusing(POISON, error=RetriableError))
    service = dispatcher(provider)
    given = texts(64)
    given[40] = POISON
    outcomes = await service.embed(given, "document")
    assert isinstance(outcomes[40], Rejection)
    assert "other texts succeed" in outcomes[40].reason
    assert_right(given[:40] + given[41:], [*outcomes[:40], *outcomes[41:]])
    assert len(provider.calls) < 50
    assert anyio.current_time() < 1200


async def test_two_such_texts_side_by_side_do_not_send_the_others_one_by_one() -> None:
    provider = FakeProvider(refusing("p1", "p2", error=RetriableError))
    outcomes = await dispatcher(provider).embed(["p1", "p2", *texts(62)], "document")
    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)] == [0, 1]
    first_success = next(call for call in provider.calls if not {"p1", "p2"} & set(call.texts))
    assert first_success.started < 20  # the others do not wait until these are found
    assert sum(call.texts[0].startswith("text") and len(call.texts) == 1 for call in provider.calls) <= 2


async def test_requests_refused_for_their_size_are_split_and_later_ones_are_smaller() -> None:
    async def behave(call: Call) -> None:
        if len(call.texts) > 100:
            raise RejectedError("413 payload too large", kind="too_large")

    provider = FakeProvider(behave)
    service = dispatcher(provider)
    given = texts(400)
    assert_right(given, await service.embed(given, "document"))
    first = len(provider.calls)
    assert_right(given, await service.embed(given, "document"))
    assert first == 8  # one of them with a trivial text: is it the provider that refuses?
    assert [len(call.texts) for call in provider.calls[first:]] == [100] * 4


async def test_a_lower_limit_on_tokens_is_learned_too() -> None:
    async def behave(call: Call) -> None:
        if sum(len(text) for text in call.texts) > 2000:
            raise RejectedError("requested 9000 tokens, max 2000 tokens per request")

    provider = FakeProvider(behave)
    service = dispatcher(provider)
    long = ["x" * 400 + str(i) for i in range(16)]
    assert_right(long, await service.embed(long, "document"))
    first = len(provider.calls)
    assert_right(long, await service.embed(long, "document"))
    assert len(provider.calls) - first <= 5
    await service.embed(texts(100), "document")
    assert len(provider.calls[-1].texts) > 40  # short texts are not held to the number of long ones


async def test_a_provider_that_refuses_everything_is_blocked_before_anything_is_given_up() -> None:
    async def behave(call: Call) -> None:
        if anyio.current_time() < 1000:
            raise RejectedError("unknown parameter `input_type`")

    provider = FakeProvider(behave)
    service = dispatcher(provider)
    outcomes: list[Sequence[Embedding | Rejection]] = []

    async def work() -> None:
        outcomes.append(await service.embed(texts(200), "document"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.sleep(500)
        assert (service.state() or "").startswith("blocked: the provider rejects even a trivial text")
    assert_right(texts(200), outcomes[0])


async def test_many_bad_texts_in_a_row_are_all_given_up_when_the_provider_is_sound() -> None:
    async def behave(call: Call) -> None:
        if any(text.startswith("bad") for text in call.texts):
            raise RejectedError("bad input")

    outcomes = await dispatcher(FakeProvider(behave)).embed([f"bad {i}" for i in range(100)], "document")
    assert all(isinstance(outcome, Rejection) for outcome in outcomes)
