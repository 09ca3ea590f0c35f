"""What may be spent: reserved before a call, settled after it, refused at a limit, free again the next day."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import pytest

from streamer.embedding.budget import Budget, SpendLimits, periods_at
from streamer.embedding.prices import Price
from streamer.errors import ProviderBlocked, RateLimited, RetriableError, SpendLimitReached
from streamer.protocols import Answer, Cost
from tests.embedding.dispatching import assert_right, dispatcher, texts
from tests.embedding.providers import Behaviour, Call, FakeProvider, rows
from tests.support.fakes import MemoryLedger

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC).timestamp()
PRICE = Price(1.0)  # a micro-dollar, or 1,000 nano-dollars, a token


def clock() -> float:
    """The virtual time of the loop, which begins at noon."""
    return NOON + anyio.current_time()


def budget(ledger: MemoryLedger | None, price: Price | None = PRICE, **limits: Any) -> Budget:
    return Budget(ledger, price=price, limits=SpendLimits(**limits), clock=clock)


def billing(tokens_a_text: int) -> Behaviour:
    async def behave(call: Call) -> Answer:
        return Answer(rows(call.texts), billed_tokens=tokens_a_text * len(call.texts))

    return behave


def day_of(ledger: MemoryLedger, day: str = "2026-11-28") -> int:
    return ledger.costs.get(day, Cost()).tokens


def test_periods_are_those_of_utc_and_end_at_midnight() -> None:
    last = periods_at(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
    assert (last.day, last.month) == ("2026-12-31", "2026-12")
    assert last.day_ends == last.month_ends == datetime(2027, 1, 1, tzinfo=UTC)
    assert periods_at(datetime(2028, 2, 29, tzinfo=UTC).timestamp()).month_ends == datetime(2028, 3, 1, tzinfo=UTC)


async def test_what_is_counted_is_what_the_answers_say() -> None:
    ledger, provider = MemoryLedger(), FakeProvider(billing(3))
    spending = budget(ledger)
    embedder = dispatcher(provider, budget=spending)
    assert_right(texts(10), await embedder.embed(texts(10), "document"))
    assert ledger.costs == {"2026-11-28": Cost(30, 30_000, 1), "2026-11": Cost(30, 30_000, 1)}
    statistics = spending.statistics()
    assert (statistics.usd_total, statistics.day_usd, statistics.month_usd) == (0.00003, 0.00003, 0.00003)
    assert (statistics.day_tokens, statistics.day_requests, statistics.limit_reached) == (30, 1, False)


async def test_an_answer_without_a_count_costs_what_was_estimated() -> None:
    ledger = MemoryLedger()
    await dispatcher(FakeProvider(), budget=budget(ledger)).embed(["abcd"], "document")
    assert day_of(ledger) == 6  # bytes and two special tokens, the most that it can be


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (RateLimited("too many"), 0),
        (RetriableError("502"), 0),
        (RetriableError("the connection broke", may_be_billed=True), 6),
    ],
)
async def test_a_call_that_failed_costs_nothing_unless_it_may_have_been_done(error: Exception, counted: int) -> None:
    ledger = MemoryLedger()

    async def behave(call: Call) -> Answer | None:
        if call.number == 0:
            raise error
        return Answer(rows(call.texts), billed_tokens=1)

    await dispatcher(FakeProvider(behave), budget=budget(ledger)).embed(["abcd"], "document")
    assert day_of(ledger) == counted + 1


async def test_a_call_that_ran_out_of_time_may_have_been_billed() -> None:
    ledger = MemoryLedger()

    async def behave(call: Call) -> Answer | None:
        if call.number == 0:
            await anyio.sleep_forever()
        return Answer(rows(call.texts), billed_tokens=1)

    await dispatcher(FakeProvider(behave), budget=budget(ledger), timeout=5.0).embed(["abcd"], "document")
    assert day_of(ledger) == 6 + 1


async def test_a_cancelled_call_counts_as_estimated_and_is_in_flight_no_more() -> None:
    spending = budget(ledger := MemoryLedger(), tokens_per_day=1000)
    embedder = dispatcher(FakeProvider(billing(1), latency=60.0), budget=spending, timeout=None)
    with anyio.move_on_after(1):
        await embedder.embed(["abcd"], "document")
    assert day_of(ledger) == 6
    assert spending.statistics().usd_total == pytest.approx(6e-6)
    assert spending._open == 0


@pytest.mark.slow
async def test_at_the_limit_of_a_day_calls_wait_until_midnight_and_go_on_by_themselves() -> None:
    ledger, provider = MemoryLedger(), FakeProvider(billing(14))  # what "text number 0" is estimated at, and one less
    embedder = dispatcher(provider, budget=budget(ledger, tokens_per_day=100), concurrency=2)
    outcomes: dict[int, object] = {}

    async def embed(number: int) -> None:
        outcomes[number] = await embedder.embed([f"text number {number}"], "document")

    async with anyio.create_task_group() as tasks:
        for number in range(9):
            tasks.start_soon(embed, number)
        await anyio.sleep(60)
        assert len(outcomes) == len(provider.calls) == 7
        assert 100 - 15 <= day_of(ledger) <= 100
        assert embedder.state() == (
            "spend limit reached since 2026-11-28T12:00:00Z, until 2026-11-29T00:00:00Z: "
            f"{day_of(ledger)} of 100 tokens a day (provider.max_tokens_per_day)"
        )
        await anyio.sleep(12 * 3600 - 62)
        assert len(provider.calls) == 7
        await anyio.sleep(8)
        assert len(outcomes) == 9
    assert embedder.state() is None
    assert day_of(ledger, "2026-11-29") == 28
    assert ledger.costs["2026-11"].tokens == 9 * 14


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"usd_per_day": 0.0001}, "until 2026-11-29T00:00:00Z: 0.000090 USD of 0.0001 USD a day "
                                  "(provider.max_spend_per_day)"),
        ({"usd_per_month": 0.0001}, "until 2026-12-01T00:00:00Z: 0.000090 USD of 0.0001 USD a month "
                                    "(provider.max_spend_per_month)"),
        ({"tokens_per_day": 95, "usd_per_month": 0.0001}, "until 2026-12-01T00:00:00Z"),
        ({"requests_per_day": 40}, "until 2026-11-29T00:00:00Z: 40 of 40 requests a day "
                                   "(provider.max_requests_per_day)"),
        ({"usd_per_day": 0.0001, "usd_total": 0.0002}, "since 2026-11-28T12:00:00Z: 0.0002 USD of 0.0002 USD in all "
                                                       "(provider.max_spend)"),
    ],
)  # fmt: skip
async def test_the_limit_that_is_longest_in_the_way_is_named(limits: dict[str, Any], said: str) -> None:
    ledger = MemoryLedger()
    ledger.costs = {"2026-11-28": Cost(90, 90_000, 40), "2026-11": Cost(90, 90_000), "total": Cost(200, 200_000)}
    spending = budget(ledger, **limits)
    assert await spending.reserve(11) is None
    assert said in (spending.state() or "")


async def test_what_is_in_flight_may_cost_less_so_the_limit_is_not_told_yet() -> None:
    spending = budget(ledger := MemoryLedger(), tokens_per_day=100)
    first = await spending.reserve(90)
    assert first is not None
    assert await spending.reserve(20) is None
    assert spending.state() is None
    await spending.settle(first, 70)
    assert await spending.reserve(20) is not None
    assert day_of(ledger) == 90


async def test_another_process_that_settles_makes_room() -> None:
    ledger = MemoryLedger()
    ours, theirs = budget(ledger, tokens_per_day=100), budget(ledger, tokens_per_day=100)
    held = await theirs.reserve(95)
    assert held is not None
    embedder = dispatcher(FakeProvider(billing(6)), budget=ours)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(embedder.embed, ["abcd"], "document"))
        await anyio.sleep(1)
        assert "spend limit reached" in (embedder.state() or "")
        await theirs.settle(held, 50)
        await anyio.sleep(5)
    assert embedder.state() is None
    assert day_of(ledger) == 56


async def test_requests_of_a_day_are_used_up_whatever_came_of_them_and_not_one_more_is_made() -> None:
    ledger = MemoryLedger()

    async def behave(call: Call) -> Answer | None:
        if call.number % 2:
            raise RetriableError("502")
        return Answer(rows(call.texts), billed_tokens=1)

    provider = FakeProvider(behave)
    embedder = dispatcher(provider, budget=budget(ledger, None, requests_per_day=5), concurrency=1)
    with anyio.move_on_after(3600):
        for number in range(9):
            await embedder.embed([f"text number {number}"], "document")
    assert len(provider.calls) == ledger.costs["2026-11-28"].requests == 5
    assert "5 of 5 requests a day" in (embedder.state() or "")


async def test_a_call_that_was_not_made_is_no_request() -> None:
    spending = budget(ledger := MemoryLedger(), requests_per_day=1)
    held = await spending.reserve(10)
    assert held is not None
    assert await spending.reserve(10) is None
    await spending.release(held)
    assert ledger.costs["2026-11-28"] == Cost()
    assert await spending.reserve(10) is not None


async def test_a_raised_limit_admits_calls_at_once() -> None:
    ledger = MemoryLedger()
    assert await budget(ledger, tokens_per_day=10).reserve(10)
    assert await budget(ledger, tokens_per_day=10).reserve(10) is None
    assert await budget(ledger, tokens_per_day=20).reserve(10)


async def test_requests_are_small_against_a_limit_so_that_it_is_nearly_used_up() -> None:
    ledger, provider = MemoryLedger(), FakeProvider(billing(15))
    embedder = dispatcher(provider, budget=budget(ledger, tokens_per_day=1000), concurrency=1)
    with anyio.move_on_after(60):
        await embedder.embed(texts(200), "document")
    assert 900 < day_of(ledger) <= 1000
    assert max(len(call.texts) for call in provider.calls) == 3


async def test_one_text_larger_than_a_whole_limit_goes_alone() -> None:
    ledger = MemoryLedger()
    outcomes = await dispatcher(FakeProvider(billing(50)), budget=budget(ledger, tokens_per_day=10)).embed(
        ["a text that is longer than ten bytes"], "document"
    )
    assert len(outcomes) == 1
    assert day_of(ledger) == 50


async def test_a_person_who_waits_is_told_at_once() -> None:
    ledger = MemoryLedger()
    ledger.costs = {"2026-11-28": Cost(100)}
    embedder = dispatcher(FakeProvider(), budget=budget(ledger, tokens_per_day=100), give_up_after=60.0)
    with pytest.raises(SpendLimitReached, match="max_tokens_per_day"):
        await embedder.embed(["abcd"], "document")
    assert issubclass(SpendLimitReached, ProviderBlocked)


async def test_with_a_limit_nothing_is_spent_that_cannot_be_counted() -> None:
    ledger, provider = MemoryLedger(), FakeProvider(billing(1))
    ledger.is_usable = False
    embedder = dispatcher(provider, budget=budget(ledger, tokens_per_day=100))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(embedder.embed, ["abcd"], "document"))
        await anyio.sleep(30)
        assert not provider.calls
        assert "spend cannot be counted since 2026-11-28T12:00:00Z" in (embedder.state() or "")
        ledger.is_usable = True
        await anyio.sleep(5)
    assert len(provider.calls) == 1


async def test_without_a_limit_a_store_that_fails_stops_nothing_and_is_told_later() -> None:
    ledger, provider = MemoryLedger(), FakeProvider(billing(1))
    ledger.is_usable = False
    spending = budget(ledger)
    embedder = dispatcher(provider, budget=spending)
    await embedder.embed(["abcd"], "document")
    ledger.is_usable = True
    await embedder.embed(["efgh"], "document")
    assert day_of(ledger) == 1
    assert spending.statistics().usd_total == pytest.approx(2e-6)


async def test_a_new_day_begins_with_nothing_spent() -> None:
    spending = budget(MemoryLedger(), tokens_per_day=100)
    await spending.reserve(100)
    assert await spending.reserve(1) is None or spending.state() is None
    await anyio.sleep(12 * 3600)
    statistics = spending.statistics()
    assert (statistics.day_usd, statistics.day_tokens, statistics.limit_reached) == (0.0, 0, False)
    assert statistics.month_usd == pytest.approx(1e-4)


async def test_without_a_price_tokens_are_counted_and_dollars_are_not_told() -> None:
    spending = budget(MemoryLedger(), None, tokens_per_day=100)
    await dispatcher(FakeProvider(billing(5)), budget=spending).embed(["abcd"], "document")
    statistics = spending.statistics()
    assert (statistics.usd_total, statistics.day_usd, statistics.day_tokens) == (None, None, 5)
