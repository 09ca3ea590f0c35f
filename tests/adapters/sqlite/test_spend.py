"""What an account costs, counted in the cache file by several processes: atomic, durable, and hard to lose."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack, closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from streamer.protocols import Booking, Ceiling, Cost
from tests.adapters.sqlite.cached_entries import entries, find, opened

pytestmark = pytest.mark.anyio

DAY, MONTH = "2026-11-28", "2026-11"
NO_LIMIT = {DAY: Ceiling(), MONTH: Ceiling()}

# Reserves 10 tokens again and again until the ceiling of 1,000 is reached; settles each for 7.
SPENDER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, "")
from streamer.protocols import Ceiling, Cost
from tests.adapters.sqlite.cached_entries import opened

async def main():
    async with opened(Path(sys.argv[1])) as cache:
        ledger = cache.ledger("openai")
        while (booking := await ledger.reserve(Cost(10), {"2026-11-28": Ceiling(tokens=1000)})) and booking.is_booked:
            print("reserved", flush=True)
            await ledger.settle(Cost(-3), ["2026-11-28"])
            print("settled", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


def spender(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SPENDER, str(path)], stdout=subprocess.PIPE, text=True)


async def test_costs_add_up_and_outlive_the_process(path: Path) -> None:
    async with opened(path) as cache:
        ledger = cache.ledger("openai")
        assert await ledger.spent([DAY]) == {DAY: Cost()}
        assert await ledger.reserve(Cost(100, 2000), NO_LIMIT) == Booking(
            True, {DAY: Cost(100, 2000), MONTH: Cost(100, 2000)}
        )
        assert await ledger.settle(Cost(-40, -800), [DAY, MONTH]) == {DAY: Cost(60, 1200), MONTH: Cost(60, 1200)}
    async with opened(path) as cache:
        assert await cache.ledger("openai").spent([DAY, MONTH]) == {DAY: Cost(60, 1200), MONTH: Cost(60, 1200)}
        assert await cache.ledger("voyage").spent([DAY]) == {DAY: Cost()}


async def test_what_one_ceiling_does_not_admit_is_booked_nowhere(path: Path) -> None:
    async with opened(path) as cache:
        ledger = cache.ledger("openai")
        ceilings = {DAY: Ceiling(nano_usd=1000), MONTH: Ceiling(tokens=100)}
        await ledger.reserve(Cost(60, 500), ceilings)
        booking = await ledger.reserve(Cost(41, 400), ceilings)
        assert booking == Booking(False, {DAY: Cost(60, 500), MONTH: Cost(60, 500)})
        assert (await ledger.reserve(Cost(40, 500), ceilings)) == Booking(
            True, {DAY: Cost(100, 1000), MONTH: Cost(100, 1000)}
        )


async def test_requests_have_a_ceiling_too(path: Path) -> None:
    async with opened(path) as cache:
        ledger, ceilings = cache.ledger("openai"), {DAY: Ceiling(requests=2), MONTH: Ceiling()}
        for _ in range(2):
            assert (await ledger.reserve(Cost(5, 50, 1), ceilings) or Booking(False, {})).is_booked
        assert await ledger.reserve(Cost(5, 50, 1), ceilings) == Booking(
            False, {DAY: Cost(10, 100, 2), MONTH: Cost(10, 100, 2)}
        )
        assert await ledger.settle(Cost(-5, -50, -1), [DAY]) == {DAY: Cost(5, 50, 1)}


async def test_a_file_of_before_requests_were_counted_goes_on(path: Path) -> None:
    async with opened(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as earlier:
        earlier.execute(
            "CREATE TABLE spend (account TEXT NOT NULL, period TEXT NOT NULL, tokens INTEGER NOT NULL, "
            "nano_usd INTEGER NOT NULL, PRIMARY KEY (account, period)) WITHOUT ROWID"
        )
        earlier.execute("INSERT INTO spend VALUES ('openai', ?, 90, 900)", (DAY,))
    async with opened(path) as cache:
        ledger = cache.ledger("openai")
        assert await ledger.spent([DAY]) == {DAY: Cost(90, 900)}
        assert await ledger.reserve(Cost(5, 50, 1), {DAY: Ceiling(tokens=100)}) == Booking(
            True, {DAY: Cost(95, 950, 1)}
        )
        assert await ledger.spent([DAY]) == {DAY: Cost(95, 950, 1)}


async def test_more_than_a_ceiling_goes_alone_into_an_empty_period() -> None:
    assert Ceiling(tokens=10).admits(Cost(0), Cost(50))
    assert not Ceiling(tokens=10).admits(Cost(1), Cost(50))
    assert Ceiling().admits(Cost(10**12, 10**15), Cost(10**12))


@pytest.mark.slow
async def test_processes_never_pass_a_ceiling_together_and_a_kill_costs_what_was_reserved(path: Path) -> None:
    spenders = [spender(path), spender(path)]
    said: Counter[str] = Counter()
    first = spenders[0].stdout
    assert first is not None
    for _ in range(6):
        said[(await anyio.to_thread.run_sync(first.readline)).strip()] += 1
    spenders[0].kill()
    for process in spenders:
        out, _ = await anyio.to_thread.run_sync(process.communicate)
        said.update(out.split())
    async with opened(path) as cache:
        total = (await cache.ledger("openai").spent([DAY]) or {})[DAY].tokens
    # At the end 10 do not fit any more. The killed one may have reserved or settled once more than it could say.
    assert 990 < total <= 1000
    assert 7 * said["settled"] <= total <= 10 * (said["reserved"] - said["settled"] + 1) + 7 * said["settled"]


async def test_a_count_that_was_deleted_is_put_back_by_whoever_knows_it(path: Path) -> None:
    async with opened(path) as cache:
        ledger = cache.ledger("openai")
        await ledger.reserve(Cost(900), NO_LIMIT)
        await anyio.Path(path).unlink()
        assert await ledger.settle(Cost(-100), [DAY, MONTH]) == {DAY: Cost(800), MONTH: Cost(800)}
    async with opened(path) as cache:
        assert await cache.ledger("openai").spent([DAY]) == {DAY: Cost(800)}


async def test_clearing_and_pruning_the_cache_leave_the_count_alone(path: Path) -> None:
    async with opened(path) as cache:
        await cache.put_many(entries(range(10)))
        await cache.ledger("openai").settle(Cost(5), [DAY])
        await cache.clear()
        await cache.prune()
        assert await find(cache, range(10)) == []
        assert await cache.ledger("openai").spent([DAY]) == {DAY: Cost(5)}


async def test_a_cancelled_caller_has_settled_all_the_same(path: Path) -> None:
    async with opened(path) as cache:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await cache.ledger("openai").settle(Cost(7), [DAY])
        await cache.stats()  # waits for the writes that were begun
        assert await cache.ledger("openai").spent([DAY]) == {DAY: Cost(7)}


@pytest.mark.slow
async def test_a_store_that_cannot_be_written_says_so_and_recovers(path: Path) -> None:
    async with AsyncExitStack() as stack:
        cache = await stack.enter_async_context(opened(path))
        ledger = cache.ledger("openai")
        await ledger.settle(Cost(1), [DAY])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # another program holds the file
            assert await ledger.reserve(Cost(5), {DAY: Ceiling()}) is None
            other.execute("ROLLBACK")
        assert await ledger.reserve(Cost(5), {DAY: Ceiling()}) == Booking(True, {DAY: Cost(6)})
