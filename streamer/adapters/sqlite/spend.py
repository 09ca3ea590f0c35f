"""What an account costs, in a table of the cache file: shared by the processes on a machine, kept over restarts.

A cache may be lost and money must not be, so a process that finds its periods gone (the file was deleted, or set aside
as damaged) puts back what it last knew. Clearing and evicting leave this table alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any

import aiosqlite

from streamer.adapters.sqlite.access import Access
from streamer.adapters.sqlite.entries import Entries
from streamer.adapters.sqlite.file import code_of
from streamer.protocols import Booking, Ceiling, Cost

PATIENCE_SECONDS = 10.0  # longer than a turn of another process lasts: an amount that is given up may still be booked

TABLE = """CREATE TABLE IF NOT EXISTS spend (account TEXT NOT NULL, period TEXT NOT NULL, tokens INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL, requests INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (account, period)) WITHOUT ROWID"""
WITH_REQUESTS = "ALTER TABLE spend ADD COLUMN requests INTEGER NOT NULL DEFAULT 0"  # as files of before have no such
COLUMNS = "SELECT name FROM pragma_table_info('spend')"
FIND = "SELECT period, tokens, nano_usd, {}, changes() FROM spend WHERE account = ? AND period IN ({})"

# One statement is one transaction. It adds a cost to all of the wanted periods, or to none where it would pass a
# ceiling (NULL: there is none) of one; as `Ceiling.admits` has it, more than a ceiling goes alone into an empty period.
# A period that the table lacks begins with what is known of it.
ADD = """WITH wanted (period, most_tokens, most_nano_usd, most_requests, known_tokens, known_nano_usd, known_requests)
        AS (VALUES {}),
    found AS (SELECT wanted.*, coalesce(spend.tokens, known_tokens) AS tokens,
        coalesce(spend.nano_usd, known_nano_usd) AS nano_usd, coalesce(spend.requests, known_requests) AS requests
        FROM wanted LEFT JOIN spend ON spend.account = :account AND spend.period = wanted.period)
    INSERT INTO spend (account, period, tokens, nano_usd, requests)
    SELECT :account, period, known_tokens + :tokens, known_nano_usd + :nano_usd, known_requests + :requests FROM wanted
    WHERE NOT EXISTS (SELECT 1 FROM found WHERE (tokens > 0 AND tokens + :tokens > most_tokens)
        OR (nano_usd > 0 AND nano_usd + :nano_usd > most_nano_usd)
        OR (requests > 0 AND requests + :requests > most_requests))
    ON CONFLICT (account, period) DO UPDATE SET tokens = tokens + :tokens, nano_usd = nano_usd + :nano_usd,
        requests = requests + :requests"""


class SqliteSpendLedger:
    """A SpendLedger of one account. `account`: names it among others of the same store."""

    def __init__(self, access: Access, account: str) -> None:
        self._access = access
        self._account = account
        self._known: Mapping[str, Cost] = {}  # as of the last look, of the periods asked for last

    async def reserve(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> Booking | None:
        return await self._add(cost, ceilings)

    async def settle(self, difference: Cost, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        booking = await self._add(difference, dict.fromkeys(periods, Ceiling()))
        return None if booking is None else booking.spent

    async def spent(self, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        async def find(connection: aiosqlite.Connection, _: Entries) -> Mapping[str, Cost]:
            columns = await _columns(connection)
            if not columns:
                return {period: self._known.get(period, Cost()) for period in periods}
            return (await self._find(connection, periods, "requests" if "requests" in columns else "0"))[0]

        return await self._access.read(find)

    async def _add(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> Booking | None:
        booking: Booking | None = None
        statement, parameters = self._statement(cost, ceilings)

        async def add(connection: aiosqlite.Connection, _: Entries) -> None:
            nonlocal booking
            try:
                await connection.execute_fetchall(statement, parameters)
            except sqlite3.OperationalError as exc:
                if code_of(exc) != sqlite3.SQLITE_ERROR:
                    raise
                await _make_table(connection)
                await connection.execute_fetchall(statement, parameters)
            spent, added = await self._find(connection, list(ceilings))
            self._known = spent
            booking = Booking(added, spent)

        task = self._access.write(add)
        if task is not None:
            # Not cancelled with the caller: what was asked for at the end of a call must not be lost.
            await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        return booking

    def _statement(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> tuple[str, dict[str, Any]]:
        parameters: dict[str, Any] = {"account": self._account, **asdict(cost)}
        rows = []
        for number, (period, most) in enumerate(ceilings.items()):
            known = self._known.get(period, Cost())
            values = (period, *astuple(most), *astuple(known))
            names = [f"w{number}_{place}" for place in range(len(values))]
            parameters |= dict(zip(names, values, strict=True))
            rows.append(f"({', '.join(f':{name}' for name in names)})")
        return ADD.format(", ".join(rows)), parameters

    async def _find(
        self, connection: aiosqlite.Connection, periods: Sequence[str], requests: str = "requests"
    ) -> tuple[dict[str, Cost], bool]:
        """The totals, and whether the last change changed anything."""
        places = ", ".join("?" * len(periods))
        statement = FIND.format(requests, places)
        rows = list(await connection.execute_fetchall(statement, (self._account, *periods)))
        found = {period: Cost(*map(int, numbers)) for period, *numbers, _ in rows}
        totals = {period: found.get(period, self._known.get(period, Cost())) for period in periods}
        return totals, any(changes for *_, changes in rows)


async def _columns(connection: aiosqlite.Connection) -> set[str]:
    """None of them where there is no table."""
    return {str(name) for (name,) in await connection.execute_fetchall(COLUMNS)}


async def _make_table(connection: aiosqlite.Connection) -> None:
    """What a file of before lacks: the table, or its latest column."""
    await connection.execute_fetchall(TABLE)
    if "requests" not in await _columns(connection):
        await connection.execute_fetchall(WITH_REQUESTS)
