"""Reading and writing a cache file through whatever happens to it.

A damaged file is set aside and begun anew. A file that cannot be used is left alone for a while, then tried again; one
that can only not be written is read meanwhile. A file that was deleted or replaced is let go of.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias, TypeVar

import aiosqlite
import structlog

from streamer.adapters.sqlite.entries import Entries
from streamer.adapters.sqlite.file import CacheFile, NoTurn, code_of, is_damage
from streamer.core.outages import Outage
from streamer.core.vectors import Space
from streamer.errors import ConfigurationError

log = structlog.get_logger(__name__)

T = TypeVar("T")
# Given the connection and the entries of our space in this file.
Read: TypeAlias = Callable[[aiosqlite.Connection, Entries], Awaitable[T]]
Write: TypeAlias = Callable[[aiosqlite.Connection, Entries], Awaitable[bool | None]]

PATIENCE_SECONDS = 2.0  # of a caller with the disk
MOST_WRITES = 32  # waiting or under way
# What keeps SQLite from writing a file that it can still read.
WRITE_FAULTS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# ValueError: aiosqlite's name for a connection that was closed meanwhile. ConfigurationError: where our file was, there
# is now somebody else's.
FAULTS = (sqlite3.Error, OSError, ValueError, ConfigurationError)


class Access:
    """One file, one connection, any number of callers here and in other processes.

    Each write is a task of its own, and they take turns: on a shared connection, a caller that is cancelled between
    BEGIN and COMMIT would leave its open transaction to the next one. Other processes have their turns in between.
    """

    def __init__(self, file: CacheFile, space: Space, retry_seconds: float) -> None:
        self._file = file
        self._space = space
        self._retry_seconds = retry_seconds
        self._connection: aiosqlite.Connection | None = None
        self._entries = Entries(0)  # until there is a connection
        self._closed = False
        # Times of the loop's clock, which nobody sets.
        self._retry_at = self._write_again_at = self._damaged_at = -math.inf
        self._turn = asyncio.Lock()
        self._writes: set[asyncio.Task[bool]] = set()
        self._mending: asyncio.Task[None] | None = None
        self.faults = 0
        self.reason = ""
        self._outage = Outage(settle=0.0)  # a fault is none of a moment: it is retried after `retry_seconds`

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def state(self) -> str | None:
        """Why it is not used, or not written, just now."""
        now = asyncio.get_running_loop().time()
        return self.reason if now < max(self._retry_at, self._write_again_at) else None

    async def start(self) -> None:
        """Open the file. Raises ConfigurationError if it is somebody else's; any other fault is for later."""
        try:
            async with self._file.turn():
                self._connection, self._entries = await self._file.open(self._space)
        except ConfigurationError:
            raise
        except FAULTS as exc:
            self._leave_alone(exc)

    async def read(self, work: Read[T], *, give_up_after: float = PATIENCE_SECONDS) -> T | None:
        """What `work` returns; None when the file cannot be read, or not in `give_up_after` seconds."""
        connection = await self._available()
        if connection is None:
            return None
        try:
            async with asyncio.timeout(give_up_after):
                return await work(connection, self._entries)
        except FAULTS as exc:
            await self._fault(connection, exc)
            return None

    def write(self, work: Write) -> asyncio.Task[bool] | None:
        """Do `work` when its turn comes; the result says whether it was done. None when too much is waiting already.

        The work begins and commits its own transactions; one that it leaves open by failing is rolled back. It is done
        again for as long as it returns True; others have their turn in between.
        """
        if self._closed or len(self._writes) >= MOST_WRITES:
            return None
        task = asyncio.create_task(self._write(work))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    async def written(self) -> None:
        """Wait for the writes that were begun."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def aclose(self) -> None:
        """Finish what was begun, and close the file."""
        self._closed = True
        try:
            while self._writes or not self._is_mended():
                await asyncio.wait({*self._writes, *([self._mending] if self._mending else [])})
        finally:
            connection, self._connection = self._connection, None
            try:
                if connection:
                    await self._close(connection)
            except FAULTS as exc:
                log.warning("cache not closed cleanly", path=str(self._file.path), reason=str(exc))
            finally:
                self._file.release()

    async def _close(self, connection: aiosqlite.Connection) -> None:
        try:
            async with self._file.turn():
                await connection.close()
        except (NoTurn, OSError, ConfigurationError):
            # Without a turn: it was not had by somebody who was stopped, and who has the file open, so that closing it
            # here writes nothing.
            await connection.close()

    async def _write(self, work: Write) -> bool:
        while True:
            async with self._turn:
                more = await self._once(work)
            if not more:
                return more is not None

    async def _once(self, work: Write) -> bool | None:
        """What `work` returned, as a bool; None when it was not done."""
        for _ in range(2):
            if asyncio.get_running_loop().time() < self._write_again_at:
                return None
            connection = await self._available()
            if connection is None:
                return None
            try:
                async with self._file.turn():
                    # Not before the turn: another process may have replaced the file in the turn before.
                    if is_in_place := self._file.is_in_place():
                        more = await self._undone_if_it_fails(connection, work)
            except FAULTS as exc:
                await self._fault(connection, exc, writing=True)
                return None
            if is_in_place:
                self._tell(None)
                return bool(more)
            log.warning("cache file deleted or replaced; opening it again", path=str(self._file.path))
            await self._mend(connection, None)
        return None

    async def _undone_if_it_fails(self, connection: aiosqlite.Connection, work: Write) -> bool | None:
        try:
            return await work(connection, self._entries)
        except FAULTS:
            await connection.rollback()
            raise

    async def _available(self) -> aiosqlite.Connection | None:
        """The connection, opened again if it is time; None while there is none. Waits for nobody else who mends it."""
        is_time = asyncio.get_running_loop().time() >= self._retry_at
        if self._connection is None and not self._closed and is_time:
            await self._mend(None, None)
        return self._connection

    async def _fault(self, connection: aiosqlite.Connection, exc: Exception, *, writing: bool = False) -> None:
        is_whole = connection is self._connection and not connection.in_transaction
        if writing and is_whole and (code_of(exc) in WRITE_FAULTS or isinstance(exc, NoTurn)):
            self._write_again_at = self._noted("not writable: ", exc)
        else:
            await self._mend(connection, exc)

    async def _mend(self, connection: aiosqlite.Connection | None, exc: Exception | None) -> None:
        """Replace a connection, in a task of its own: a caller that is cancelled must not leave it half replaced."""
        if connection is self._connection and self._is_mended():
            self._connection = None
            self._mending = asyncio.create_task(self._replace(connection, exc))
            await asyncio.wait([self._mending], timeout=PATIENCE_SECONDS)

    def _is_mended(self) -> bool:
        return self._mending is None or self._mending.done()

    async def _replace(self, connection: aiosqlite.Connection | None, exc: Exception | None) -> None:
        try:
            async with self._file.turn():
                await _closed(connection)
                if exc and not is_damage(exc):
                    self._leave_alone(exc)
                    return
                if exc:
                    await asyncio.to_thread(self._file.set_aside, str(exc))
                    now = asyncio.get_running_loop().time()
                    again, self._damaged_at = now - self._damaged_at < self._retry_seconds, now
                    if again:  # a disk that damages one file after the other
                        self._leave_alone(exc)
                        return
                self._connection, self._entries = await self._file.open(self._space)
            if asyncio.get_running_loop().time() >= self._write_again_at:
                self._tell(None)
        except FAULTS as second:
            await _closed(connection)
            self._leave_alone(second)

    def _leave_alone(self, exc: Exception) -> None:
        self._retry_at = self._noted("", exc)

    def _noted(self, prefix: str, exc: Exception) -> float:
        """Tell of a fault; when to try again."""
        self.faults += 1
        self.reason = str(exc) or type(exc).__name__
        self._tell(f"{prefix}{self.reason}")
        return asyncio.get_running_loop().time() + self._retry_seconds

    def _tell(self, reason: str | None) -> None:
        if transition := self._outage.observe(reason, asyncio.get_running_loop().time()):
            level, event, facts = transition.line("cache")
            log.log(level, event, path=str(self._file.path), **facts)


async def _closed(connection: aiosqlite.Connection | None) -> None:
    if connection:
        with suppress(*FAULTS):
            await connection.close()
