"""The dispatcher while its provider refuses, is down or does not answer, on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from streamer.errors import ProviderBlocked, RateLimited, RetriableError
from streamer.protocols import Embedding, Rejection
from tests.embedding.dispatching import assert_right, dispatcher, failing, texts
from tests.embedding.providers import Call, FakeProvider, contract

pytestmark = pytest.mark.anyio


async def test_retry_after_holds_back_every_call_on_the_account() -> None:
    provider = FakeProvider(failing(1, RateLimited("slow down", retry_after=3.0)))
    service = dispatcher(provider)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.embed, texts(5), "document")
        await anyio.sleep(0.1)
        assert (service.state() or "").startswith("rate limited until ")
        tasks.start_soon(service.embed, texts(5), "document")
    assert provider.calls[0].started == 0.0
    assert all(3.0 <= call.started <= 3.6 for call in provider.calls[1:])
    assert len(provider.calls) == 3
    assert service.state() is None
    assert service.statistics().rate_limited_total == 1


async def test_without_a_header_the_wait_grows_and_is_spread() -> None:
    provider = FakeProvider(failing(8, RateLimited("slow down")))
    given = texts(5)
    assert_right(given, await dispatcher(provider).embed(given, "document"))
    starts = [call.started for call in provider.calls]
    waits = np.diff(starts)
    assert all(0.25 * 2**i <= wait <= 0.5 * 2**i + 0.01 for i, wait in enumerate(waits))


async def test_an_absurd_retry_after_blocks_the_account_and_is_probed() -> None:
    provider = FakeProvider(failing(2, RateLimited("come back tomorrow", retry_after=86_400.0)))
    service = dispatcher(provider)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.embed, texts(5), "document")
        await anyio.sleep(1)
        assert service.state() == "blocked: come back tomorrow (asks to wait 86400 s)"
    assert service.state() is None
    assert anyio.current_time() < 60


async def test_a_blocked_account_is_probed_by_one_call_at_a_time_and_resumes_once_it_is_mended() -> None:
    async def behave(call: Call) -> None:
        if anyio.current_time() < 3600:
            raise ProviderBlocked("no credit left")

    provider = FakeProvider(behave, latency=1.0)
    service = dispatcher(provider)
    states = []
    async with anyio.create_task_group() as tasks:
        for i in range(20):
            tasks.start_soon(service.embed, texts(5, start=5 * i), "document")
        await anyio.sleep(600)
        states.append(service.state())
    assert states == ["blocked: no credit left"]
    assert service.state() is None
    refused = [call for call in provider.calls if call.started < 3599]
    assert 1 + 4 <= refused[8].started <= 2 + 8
    assert len(refused) < 8 + 3600 / 6  # those that were out when it began, then the probes of an hour
    assert all(call.open_calls == 1 for call in refused[8:])
    assert anyio.current_time() < 3600 + 10 + 10, "seen within ten seconds, and then all 20 calls are made"
    assert len(provider.calls) - len(refused) == 20


async def test_calls_that_were_out_when_the_account_was_blocked_do_not_unblock_it() -> None:
    async def behave(call: Call) -> None:
        if call.number == 0:
            await anyio.sleep(5)
        elif anyio.current_time() < 100:
            raise ProviderBlocked("key revoked")

    provider = FakeProvider(behave)
    service = dispatcher(provider)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.embed, texts(5), "document")
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(service.embed, texts(5), "document")
        await anyio.sleep(6)
        assert service.state() == "blocked: key revoked"
        assert len(provider.calls) <= 3, "those two, and perhaps the first probe"


@pytest.mark.parametrize(
    "error", [RetriableError("503"), pytest.param(RetriableError("connection refused"), marks=pytest.mark.slow)]
)
async def test_an_outage_is_waited_out_with_few_calls(error: RetriableError) -> None:
    async def behave(call: Call) -> None:
        if anyio.current_time() < 1800:
            raise error

    provider = FakeProvider(behave)
    service = dispatcher(provider)
    given = texts(100)
    outcomes: list[Sequence[Embedding | Rejection]] = []

    async def work() -> None:
        outcomes.append(await service.embed(given, "document"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        tasks.start_soon(service.embed, ["a single text"], "document")
        await anyio.sleep(900)
        assert service.state() == f"down: {error}"
    assert_right(given, outcomes[0])
    assert len(provider.calls) < 2 * (2 * 1800 / 6)  # six seconds apart, two callers, a control for the single one
    assert service.state() is None
    assert service.statistics().rejected_total == 0


async def test_retry_after_of_another_failure_holds_back_its_own_call_only() -> None:
    provider = FakeProvider(failing(1, RetriableError("503", retry_after=20.0)))
    service = dispatcher(provider)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.embed, texts(2), "document")
        await anyio.sleep(0.1)
        tasks.start_soon(service.embed, texts(2), "document")
    assert [round(call.started, 1) for call in provider.calls][:2] == [0.0, 0.1]
    assert provider.calls[2].started >= 20.0


async def test_an_answer_that_does_not_come_or_drips_is_cut_off_and_given_more_time() -> None:
    async def behave(call: Call) -> None:
        await anyio.sleep([3600, 150, 150, 150][call.number])

    provider = FakeProvider(behave)
    service = dispatcher(provider, timeout=60.0)
    given = texts(3)
    assert_right(given, await service.embed(given, "document"))
    assert service.statistics().timeouts_total == 2  # 60 s and 120 s were too short for it, 240 s are enough
    assert anyio.current_time() < 60 + 120 + 150 + 5


async def test_patience_ends_an_outage_for_who_waits_but_not_a_rate_limit() -> None:
    async def behave(call: Call) -> None:
        if call.started < 100:
            raise RateLimited("429", retry_after=10.0)
        if is_down:
            raise RetriableError("503")

    is_down = False
    service = dispatcher(FakeProvider(behave), give_up_after=30.0)
    assert_right(texts(3), await service.embed(texts(3), "document"))
    assert anyio.current_time() >= 100
    is_down = True
    for given in (["one"], ["one", "two"]):
        started = anyio.current_time()
        with pytest.raises(RetriableError, match="503"):
            await service.embed(given, "document")
        assert 30 <= anyio.current_time() - started < 120
    is_down = False
    assert_right(texts(3), await service.embed(texts(3), "document"))


@pytest.mark.parametrize("count", [1, 5])
async def test_row_20_a_text_that_fails_each_time_is_no_outage_and_takes_no_other_with_it(count: int) -> None:
    async def behave(call: Call) -> None:
        if "poison" in call.texts:
            raise RetriableError("500 EOF")

    service = dispatcher(FakeProvider(behave), give_up_after=30.0)
    given = [*texts(count - 1), "poison"]
    *good, bad = await service.embed(given, "document")
    assert_right(given[:-1], good)
    assert isinstance(bad, Rejection)
    assert (bad.kind, "500 EOF" in bad.reason) == ("rejected", True)
    assert anyio.current_time() < 75


async def test_patience_begins_anew_with_every_call_that_is_answered() -> None:
    async def behave(call: Call) -> None:
        if call.number % 3:
            raise RetriableError("503")

    service = dispatcher(
        FakeProvider(behave, latency=8.0), contract=contract(max_items=1), concurrency=1, give_up_after=30
    )
    assert_right(texts(9), await service.embed(texts(9), "document"))
    assert anyio.current_time() > 9 * 8


async def test_with_patience_a_blocked_account_is_told_at_once_and_tried_again_later() -> None:
    async def behave(call: Call) -> None:
        if call.started < 50:
            raise ProviderBlocked("401")

    provider = FakeProvider(behave)
    service = dispatcher(provider, give_up_after=30.0)
    while True:
        try:
            outcomes = await service.embed(texts(2), "document")
            break
        except ProviderBlocked:
            await anyio.sleep(1)
    assert_right(texts(2), outcomes)
    assert len(provider.calls) < 14
    assert 50 <= anyio.current_time() < 120


async def test_one_slow_call_holds_up_nobody_else() -> None:
    async def behave(call: Call) -> None:
        await anyio.sleep(30 if call.number == 3 else 0.1)

    provider = FakeProvider(behave)
    service = dispatcher(provider, contract=contract(max_items=10), concurrency=8)
    finished: list[float] = []

    async def work(start: int) -> None:
        given = texts(10, start)
        assert_right(given, await service.embed(given, "document"))
        finished.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for i in range(64):
            tasks.start_soon(work, 10 * i)
    assert sorted(finished)[-2] < 2
    assert provider.most_open_calls <= 8


async def test_concurrency_adapts_to_a_server_that_takes_only_so_many() -> None:
    async def behave(call: Call) -> None:
        if call.open_calls > 6:
            raise RateLimited("queue full", retry_after=0.01)

    provider = FakeProvider(behave, latency=1.0)
    service = dispatcher(provider, contract=contract(max_items=1), concurrency=64)
    given = texts(400)
    assert_right(given, await service.embed(given, "document"))
    assert service.statistics().rate_limited_total < 0.1 * len(provider.calls)
    assert anyio.current_time() < 1.3 * 400 / 6


async def test_concurrency_grows_while_nobody_objects() -> None:
    provider = FakeProvider(latency=1.0)
    await dispatcher(provider, contract=contract(max_items=1), concurrency=64).embed(texts(400), "document")
    assert provider.calls[10].started > 0
    assert 32 < provider.most_open_calls <= 64


async def test_after_a_long_outage_a_large_group_is_soon_large_again() -> None:
    async def behave(call: Call) -> None:
        if anyio.current_time() < 3600:
            raise RetriableError("503")

    provider = FakeProvider(behave)
    given = texts(512)
    assert_right(given, await dispatcher(provider).embed(given, "document"))
    assert sum(call.started >= 3600 for call in provider.calls) <= 12


async def test_cancelling_gives_everything_back() -> None:
    provider = FakeProvider(latency=10.0)
    service = dispatcher(provider, concurrency=2)
    with anyio.move_on_after(1):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(service.embed, texts(3), "document")
    assert provider.open_calls == service.statistics().in_flight == 0
    given = texts(3)
    assert_right(given, await service.embed(given, "document"))
