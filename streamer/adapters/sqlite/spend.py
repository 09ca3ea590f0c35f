"""What an account costs, in a table of the cache file: shared by the processes on a machine, kept over restarts.

A cache may be lost and money must not be, so a process that finds its periods gone (the file was deleted, or set aside
as damaged) puts back what it last knew. Clearing and evicting leave this table alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import aiosqlite

from streamer.adapters.sqlite.access import Access
from streamer.protocols import Booking, Ceiling, Cost

PATIENCE_SECONDS = 10.0  # longer than a turn of another process lasts: an amount that is given up may still be booked

TABLE = """CREATE TABLE IF NOT EXISTS spend (account TEXT NOT NULL, period TEXT NOT NULL, tokens INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL, PRIMARY KEY (account, period)) WITHOUT ROWID"""
HAS_TABLE = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'spend'"
FIND = "SELECT tokens, nano_usd FROM spend WHERE account = ? AND period = ?"
PUT = """INSERT INTO spend (account, period, tokens, nano_usd) VALUES (?, ?, ?, ?)
    ON CONFLICT (account, period) DO UPDATE SET tokens = excluded.tokens, nano_usd = excluded.nano_usd"""


class SqliteSpendLedger:
    """A SpendLedger of one account. `account`: names it among others of the same store."""

    def __init__(self, access: Access, account: str) -> None:
        self._access = access
        self._account = account
        self._known: dict[str, Cost] = {}  # as of the last look, of the periods asked for last

    async def reserve(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> Booking | None:
        booked = False

        def decide(spent: Mapping[str, Cost]) -> Cost:
            nonlocal booked
            booked = all(ceiling.admits(spent[period], cost) for period, ceiling in ceilings.items())
            return cost if booked else Cost()

        spent = await self._change(list(ceilings), decide)
        return None if spent is None else Booking(booked, spent)

    async def settle(self, difference: Cost, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        return await self._change(periods, lambda _: difference)

    async def spent(self, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        async def find(connection: aiosqlite.Connection, _: int) -> dict[str, Cost]:
            has_table = bool(list(await connection.execute_fetchall(HAS_TABLE)))
            return {period: await self._find(connection, period) if has_table else Cost() for period in periods}

        return await self._access.read(find)

    async def _change(
        self, periods: Sequence[str], decide: Callable[[Mapping[str, Cost]], Cost]
    ) -> Mapping[str, Cost] | None:
        """Add to the periods what `decide` makes of their totals, in one transaction; the totals afterwards."""
        after: dict[str, Cost] | None = None

        async def change(connection: aiosqlite.Connection, _: int) -> None:
            nonlocal after
            await connection.execute_fetchall("BEGIN IMMEDIATE")
            await connection.execute_fetchall(TABLE)
            before = {period: await self._find(connection, period) for period in periods}
            added = decide(before)
            totals = {period: spent + added for period, spent in before.items()}
            for period, total in totals.items():
                await connection.execute_fetchall(PUT, (self._account, period, total.tokens, total.nano_usd))
            await connection.execute_fetchall("COMMIT")
            self._known = after = totals

        task = self._access.write(change)
        if task is not None:
            # Not cancelled with the caller: what was asked for at the end of a call must not be lost.
            await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        return after

    async def _find(self, connection: aiosqlite.Connection, period: str) -> Cost:
        found = list(await connection.execute_fetchall(FIND, (self._account, period)))
        return Cost(*map(int, found[0])) if found else self._known.get(period, Cost())
