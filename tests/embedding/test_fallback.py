from __future__ import annotations

import anyio
import pytest
from structlog.typing import EventDict

from streamer.embedding.backoff import BackoffPolicy
from streamer.embedding.dispatcher import Dispatcher
from streamer.embedding.fallback import Fallback
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError, SpaceMismatch
from streamer.protocols import Answer, Embedding
from tests.embedding.providers import Call, FakeProvider, contract, rows, space

pytestmark = pytest.mark.anyio


def failing_until(end: float, error: Exception) -> FakeProvider:
    async def behave(call: Call) -> Answer | None:
        if anyio.current_time() < end:
            raise error
        return Answer(rows(call.texts), headers={"x": "primary"})

    return FakeProvider(behave)


def fallback(*providers: FakeProvider) -> Fallback:
    return Fallback(providers, backoff=BackoffPolicy(initial=10.0, maximum=100.0), random=lambda: 0.0)


async def test_another_space_is_refused_by_name_even_with_equal_dimensions() -> None:
    with pytest.raises(SpaceMismatch, match=r"fake other \(space .*cannot stand in for fake fake"):
        fallback(FakeProvider(), FakeProvider(space=space(model="other")))


@pytest.mark.parametrize("error", [RetriableError("503"), RateLimited("429", retry_after=5.0), ProviderBlocked("401")])
async def test_while_the_first_fails_the_next_is_asked_and_then_the_first_again(error: Exception) -> None:
    first, second = failing_until(12, error), FakeProvider()
    service = Dispatcher(fallback(first, second), contract(), random=lambda: 0.0)
    for _ in range(40):
        [outcome] = await service.embed(["a"], "document")
        assert isinstance(outcome, Embedding)
        await anyio.sleep(0.5)
    assert 1 < len(first.calls) < 20
    assert len(second.calls) >= 10
    assert len(second.calls) + sum(call.started >= 12 for call in first.calls) == 40
    assert service.state() is None
    assert service.statistics().retries_total == 0


async def test_each_switch_is_told(logs: list[EventDict]) -> None:
    first, second = failing_until(12, RetriableError("503")), FakeProvider()
    service = Dispatcher(fallback(first, second), contract(), random=lambda: 0.0)
    for _ in range(40):
        await service.embed(["a"], "document")
        await anyio.sleep(0.5)
    assert [(line["log_level"], line["event"], line.get("reason")) for line in logs] == [
        ("warning", "switched to a fallback provider", "503"),
        ("info", "switched back to the first provider", None),
    ]


async def test_when_all_fail_the_dispatcher_waits_as_for_one() -> None:
    first, second = failing_until(500, RetriableError("503")), failing_until(300, RetriableError("502"))
    service = Dispatcher(fallback(first, second), contract(), random=lambda: 0.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.embed, ["a", "b"], "document")
        await anyio.sleep(250)
        assert (service.state() or "").startswith("down: ")
    assert service.state() is None
    assert anyio.current_time() < 500
    assert len(first.calls) + len(second.calls) < 60


async def test_a_provider_that_hangs_is_passed_over_after_the_deadline() -> None:
    async def hang(call: Call) -> None:
        await anyio.sleep_forever()

    first, second = FakeProvider(hang), FakeProvider()
    service = Dispatcher(fallback(first, second), contract(), timeout=30.0, random=lambda: 0.0)
    [outcome] = await service.embed(["a"], "document")
    assert isinstance(outcome, Embedding)
    assert len(first.calls) == len(second.calls) == 1


async def test_a_refused_text_is_not_tried_elsewhere_and_only_the_first_tells_of_limits() -> None:
    async def refuse(call: Call) -> None:
        raise RejectedError("bad input")

    second = FakeProvider()
    with pytest.raises(RejectedError):
        await fallback(FakeProvider(refuse), second).embed(["a"], "document")
    assert second.calls == []

    async def tell(call: Call) -> Answer:
        return Answer(rows(call.texts), headers={"x": "second"})

    both = fallback(failing_until(1, RetriableError("503")), FakeProvider(tell))
    assert (await both.embed(["a"], "document")).headers is None
    await anyio.sleep(20)
    assert (await both.embed(["a"], "document")).headers == {"x": "primary"}
    await both.aclose()
