"""What an account costs, counted on a server for all machines, and what happens to the count while it is away."""

# ruff: noqa: ASYNC110 - a server tells nobody what happens to it

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from streamer.adapters.redis.cache import clear
from streamer.adapters.redis.link import RedisLink
from streamer.adapters.redis.spend import RedisSpendLedger
from streamer.adapters.redis.workers import Workers
from streamer.protocols import Booking, Ceiling, Cost
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio

DAY, MONTH = "2026-11-28", "2026-11"
NO_LIMIT = {DAY: Ceiling(), MONTH: Ceiling()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@asynccontextmanager
async def ledger_on(server: RedisServer, account: str = "openai") -> AsyncIterator[RedisSpendLedger]:
    async with RedisLink.open(server.url, retry_seconds=0.02) as link, Workers.open(link, account) as workers:
        yield RedisSpendLedger(link, account, workers)


async def test_costs_add_up_for_all_who_name_the_account(server: RedisServer) -> None:
    async with ledger_on(server) as first, ledger_on(server) as second, ledger_on(server, "voyage") as other:
        assert await first.spent([DAY]) == {DAY: Cost()}
        assert await first.reserve(Cost(100, 2000), NO_LIMIT) == Booking(
            True, {DAY: Cost(100, 2000), MONTH: Cost(100, 2000)}
        )
        assert await second.settle(Cost(-40, -800), [DAY, MONTH]) == {DAY: Cost(60, 1200), MONTH: Cost(60, 1200)}
        assert await first.spent([DAY, MONTH]) == {DAY: Cost(60, 1200), MONTH: Cost(60, 1200)}
        assert await other.spent([DAY]) == {DAY: Cost()}
        await clear(first._link)
        assert await first.spent([DAY]) == {DAY: Cost(60, 1200)}


async def test_numbers_as_large_as_a_million_dollars_are_exact(server: RedisServer) -> None:
    async with ledger_on(server) as ledger:
        large = Cost(10**15 + 1, 10**15 + 7)
        await ledger.settle(large, [DAY])
        assert await ledger.settle(Cost(1, 1), [DAY]) == {DAY: large + Cost(1, 1)}


async def test_what_one_ceiling_does_not_admit_is_booked_nowhere(server: RedisServer) -> None:
    async with ledger_on(server) as ledger:
        ceilings = {DAY: Ceiling(nano_usd=1000), MONTH: Ceiling(tokens=100)}
        await ledger.reserve(Cost(60, 500), ceilings)
        booking = await ledger.reserve(Cost(41, 400), ceilings)
        assert booking == Booking(False, {DAY: Cost(60, 500), MONTH: Cost(60, 500)})
        booking = await ledger.reserve(Cost(40, 500), ceilings)
        assert booking == Booking(True, {DAY: Cost(100, 1000), MONTH: Cost(100, 1000)})
    async with ledger_on(server, "voyage") as ledger:  # more than a ceiling goes alone
        assert (await ledger.reserve(Cost(500), {DAY: Ceiling(tokens=10)})) == Booking(True, {DAY: Cost(500)})


async def test_requests_have_a_ceiling_too(server: RedisServer) -> None:
    async with ledger_on(server) as ledger:
        ceilings = {DAY: Ceiling(requests=2), MONTH: Ceiling()}
        for _ in range(2):
            assert (await ledger.reserve(Cost(5, 50, 1), ceilings) or Booking(False, {})).is_booked
        refused = await ledger.reserve(Cost(5, 50, 1), ceilings)
        assert refused == Booking(False, {DAY: Cost(10, 100, 2), MONTH: Cost(10, 100, 2)})
        server.kill()
        refused = await ledger.reserve(Cost(5, 50, 1), ceilings)
        assert refused == Booking(False, {DAY: Cost(10, 100, 2), MONTH: Cost(10, 100, 2)})


async def test_processes_never_pass_a_ceiling_together(server: RedisServer) -> None:
    async def spend(ledger: RedisSpendLedger) -> None:
        while (booking := await ledger.reserve(Cost(10), {DAY: Ceiling(tokens=1000)})) and booking.is_booked:
            await ledger.settle(Cost(-3), [DAY])

    async with ledger_on(server) as first, ledger_on(server) as second:
        async with anyio.create_task_group() as tasks:
            for ledger in (first, second, first):
                tasks.start_soon(spend, ledger)
        total = (await first.spent([DAY]) or {})[DAY].tokens
    assert 990 < total <= 1000


async def test_a_count_that_the_server_has_lost_is_put_back_by_whoever_knows_it(server: RedisServer) -> None:
    async with ledger_on(server) as ledger:
        await ledger.reserve(Cost(900), NO_LIMIT)
        server.client.flushall()
        assert await ledger.settle(Cost(-100), [DAY, MONTH]) == {DAY: Cost(800), MONTH: Cost(800)}


async def test_while_the_server_is_away_each_spends_its_part_of_what_is_left(server: RedisServer) -> None:
    ceilings = {DAY: Ceiling(tokens=1000)}
    async with ledger_on(server) as first, ledger_on(server) as second:
        await first._workers._beat()
        await first.reserve(Cost(400), ceilings)
        await second.settle(Cost(0), [DAY])
        server.kill()
        for ledger in (first, second):  # 600 are left, 300 for each
            for _ in range(3):
                booking = await ledger.reserve(Cost(100), ceilings)
                assert booking
                assert booking.is_booked
            booking = await ledger.reserve(Cost(100), ceilings)
            assert booking == Booking(False, {DAY: Cost(700)})
        assert await first.settle(Cost(-50), [DAY]) is None
        server.start()
        with anyio.fail_after(20):
            while await second.settle(Cost(0), [DAY]) is None or await first.settle(Cost(0), [DAY]) is None:
                await anyio.sleep(0.01)
        assert await first.spent([DAY]) == {DAY: Cost(950)}


async def test_without_ever_having_seen_the_count_nothing_is_spent(tmp_path: Path) -> None:
    absent = RedisServer(tmp_path)
    async with ledger_on(absent) as ledger:
        assert await ledger.reserve(Cost(1), {DAY: Ceiling(tokens=1000)}) is None
        assert await ledger.spent([DAY]) is None
    absent.close()


async def test_a_cancelled_caller_has_settled_all_the_same(server: RedisServer) -> None:
    async with ledger_on(server) as ledger:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ledger.settle(Cost(7), [DAY])
        with anyio.fail_after(10):
            while await ledger.spent([DAY]) != {DAY: Cost(7)}:
                await anyio.sleep(0.01)
