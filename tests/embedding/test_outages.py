"""What the log tells of a provider in trouble: the dispatcher's states, watched."""

from __future__ import annotations

import anyio
import pytest
from structlog.typing import EventDict

from streamer.app.outages import watch_outages
from streamer.embedding.dispatcher import Dispatcher
from streamer.errors import ProviderBlocked, RateLimited, RetriableError
from streamer.protocols import Answer
from tests.embedding.providers import Call, FakeProvider, contract

pytestmark = pytest.mark.anyio


def failing(*phases: tuple[float, Exception]) -> FakeProvider:
    """Fails with each error until that time."""

    async def behave(_: Call) -> Answer | None:
        for end, error in phases:
            if anyio.current_time() < end:
                raise error
        return None

    return FakeProvider(behave)


async def told(provider: FakeProvider, seconds: float) -> Dispatcher:
    service = Dispatcher(provider, contract(), random=lambda: 0.0)
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_outages, {"provider": service.state})
            while True:
                await service.embed(["a", "b"], "document")
                await anyio.sleep(1)
    return service


async def test_beginning_changes_and_end_each_once(logs: list[EventDict]) -> None:
    errors = [RetriableError("answered 500: “a”"), RateLimited("answered 429"), ProviderBlocked("answered 401")]
    provider = failing(*zip((60.0, 120.0, 400.0), errors, strict=True))
    assert (await told(provider, 1000)).state() is None
    assert [line["event"] for line in logs] == [
        "provider unavailable",
        "provider still unavailable, for another reason",
        "provider still unavailable, for another reason",
        "provider available again",
    ]
    assert 400 < logs[-1]["seconds"] < 1000


async def test_now_and_then_a_failure_is_no_outage(logs: list[EventDict]) -> None:
    numbers = iter(range(10_000))

    async def behave(_: Call) -> Answer | None:
        if next(numbers) % 3 == 0:
            raise RetriableError("answered 500")
        return None

    await told(FakeProvider(behave), 300)
    assert logs == []


async def test_refusals_by_turns_with_outages_do_not_flood_the_log(logs: list[EventDict]) -> None:
    numbers = iter(range(10_000))

    async def behave(_: Call) -> Answer | None:
        number = next(numbers)
        if number % 7 == 6:
            return None
        raise RateLimited(f"answered 429: “{number}”") if number % 2 else RetriableError(f"answered 500: “{number}”")

    await told(FakeProvider(behave), 600)
    assert logs
    assert len(logs) <= 2 * 2 * 600 // 60


async def test_refusals_that_go_on_are_one_outage_also_between_the_pauses(logs: list[EventDict]) -> None:
    async def behave(_: Call) -> Answer | None:
        await anyio.sleep(3)  # the pause is over, and nothing has changed
        raise RateLimited("answered 429", retry_after=2.0)

    await told(FakeProvider(behave), 300)
    assert [line["event"] for line in logs] == ["provider unavailable"]
    assert logs[0]["reason"].startswith("rate limited")
