"""The vector cache: what was embedded once is found again, after restarts and in replays too.

It is only a cache: whatever happens to its file, the texts are still there, so no fault of the disk, of the file or of
another program reaches those who ask.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiosqlite

from streamer.adapters.sqlite import rows
from streamer.adapters.sqlite.access import PATIENCE_SECONDS, Access, Write
from streamer.adapters.sqlite.entries import MOST_KEYS, Entries
from streamer.adapters.sqlite.file import CacheFile, to_the_end
from streamer.adapters.sqlite.spend import SqliteSpendLedger
from streamer.adapters.sqlite.upkeep import CacheContents, clear, contents_of, make_room, purge, run, shrink
from streamer.core.vectors import Space
from streamer.errors import StreamerError
from streamer.protocols import Embedding

TIDY_SECONDS = 60.0
SPARE_PAGES = 256  # free ones that stay in the file for the entries to come


@dataclass(frozen=True, slots=True)
class SqliteStatistics:
    """Entries stored, and why others were not or are no longer, since the start."""

    stored_total: int = field(metadata={"help": "Entries written to the cache file."})
    dropped_total: int = field(metadata={"help": "Entries not written because of too many writes at once or a fault."})
    expired_total: int = field(metadata={"help": "Entries found expired on reading and not used."})
    damaged_total: int = field(metadata={"help": "Entries found damaged on reading and not used."})
    evicted_total: int = field(metadata={"help": "Entries removed to keep the file within its size."})
    faults_total: int = field(metadata={"help": "Faults of the cache file that were logged."})
    available: bool = field(metadata={"help": "Whether the cache file can be read now."})


class SqliteVectorCache:
    """A VectorCache in a file, made by `open`.

    An entry is found as soon as `put_many` has returned, unless the disk took longer than PATIENCE_SECONDS. A caller
    that is cancelled has stored its entries all the same.
    """

    def __init__(
        self,
        file: CacheFile,
        access: Access,
        *,
        dimensions: int,
        ttl_seconds: float | None,
        max_bytes: int | None,
        clock: Callable[[], float],
    ) -> None:
        self._file = file
        self._access = access
        self._dimensions = dimensions
        self._ttl = math.inf if ttl_seconds is None else ttl_seconds
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self._clock = clock
        self._tidied_at = -math.inf
        self._stored = self._dropped = self._expired = self._damaged = self._evicted = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str],
        space: Space,
        *,
        ttl_seconds: float | None,
        max_bytes: int | None,
        clock: Callable[[], float] = time.time,
        retry_seconds: float = 8.0,
        next_if_taken: bool = True,
    ) -> AsyncIterator[SqliteVectorCache]:
        """The cache of one space, in a file that may hold others.

        Entries count for `ttl_seconds` from when they were stored, by `clock`. When the file (without its write-ahead
        log of some megabytes) has `max_bytes`, entries that were not used for longest make room; it exceeds them by one
        `put_many` at most. After a fault the file is tried again when `retry_seconds` have passed.

        Processes share the file. Where it cannot be shared (on a network file system, outside of Linux), a file that
        another process uses is left to it, and the first free one of `<path>-2`, `<path>-3`, ... taken, or with
        `next_if_taken` off a ConfigurationError raised; so it is for a database with other tables.
        """
        file = CacheFile(Path(path), next_if_taken=next_if_taken)
        access = Access(file, space, retry_seconds)
        try:
            await to_the_end(access.start())
            yield cls(
                file,
                access,
                dimensions=space.dimensions,
                ttl_seconds=ttl_seconds,
                max_bytes=max_bytes,
                clock=clock,
            )
        finally:
            await to_the_end(access.aclose())

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Embedding]:
        wanted = dict.fromkeys(keys)

        async def find(connection: aiosqlite.Connection, ours: Entries) -> tuple[Entries, list[rows.Row]]:
            found: list[rows.Row] = []
            sought = list(wanted)
            for start in range(0, len(sought), MOST_KEYS):
                statement, parameters = ours.find(sought[start : start + MOST_KEYS])
                found += await connection.execute_fetchall(statement, parameters)  # type: ignore[arg-type]
            return ours, found

        answer = await self._access.read(find) if wanted else None
        return self._checked(*answer, wanted) if answer else {}

    async def put_many(self, entries: Mapping[bytes, Embedding]) -> None:
        if not entries:
            return
        now = self._clock()

        async def store(connection: aiosqlite.Connection, ours: Entries) -> None:
            encoded = [ours.encode(key, embedding, now) for key, embedding in entries.items()]
            await connection.execute_fetchall("BEGIN IMMEDIATE")
            freed = await self._make_room(connection, len(encoded))
            numbers = [*(number for (number,) in freed), *[None] * len(encoded)]
            await run(connection, ours.PUT, [(number, *row) for number, row in zip(numbers, encoded, strict=False)])
            await connection.execute_fetchall("COMMIT")
            self._stored += len(encoded)
            if abs(now - self._tidied_at) >= TIDY_SECONDS:
                self._tidied_at = now
                self._access.write(tidy)

        async def tidy(connection: aiosqlite.Connection, _: Entries) -> bool:
            if await purge(connection, now=now, ttl=self._ttl):
                return True
            await shrink(connection, keep=SPARE_PAGES)
            return False

        task = self._access.write(store)
        if task is None:
            self._dropped += len(entries)
            return
        task.add_done_callback(partial(self._count_dropped, len(entries)))
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)

    def statistics(self) -> SqliteStatistics:
        return SqliteStatistics(
            stored_total=self._stored,
            dropped_total=self._dropped,
            expired_total=self._expired,
            damaged_total=self._damaged,
            evicted_total=self._evicted,
            faults_total=self._access.faults,
            available=self._access.is_open,
        )

    def state(self) -> str | None:
        """Why the file is left alone, or only read, just now; None while it is used."""
        return self._access.state()

    async def stats(self) -> CacheContents:
        """What the file holds when the writes under way are done. Raises StreamerError when it cannot be read."""
        await self._access.written()
        contents = await self._access.read(
            lambda connection, _: contents_of(connection, self._file.path), give_up_after=60.0
        )
        if contents is None:
            raise self._useless()
        return contents

    async def prune(self) -> None:
        """Delete what has expired or is beyond the size, and return the room. Raises StreamerError if that fails."""

        async def prune(connection: aiosqlite.Connection, _: Entries) -> bool:
            more = await purge(connection, now=self._clock(), ttl=self._ttl)
            return more or bool(await self._make_room(connection, 0)) or await shrink(connection)

        await self._do(prune)

    async def clear(self) -> None:
        """Delete the entries of all spaces, and return the room. Raises StreamerError if that fails."""

        async def delete(connection: aiosqlite.Connection, _: Entries) -> bool:
            return await clear(connection) or await shrink(connection)

        await self._do(delete)

    def ledger(self, account: str) -> SqliteSpendLedger:
        """What this account costs, in the same file. It counts for all processes that share the file."""
        return SqliteSpendLedger(self._access, account)

    @property
    def is_shared(self) -> bool:
        """Whether other processes on this machine use the same file."""
        return self._file.is_shared

    async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """As Claims wants it, for processes that share the file; where it is not shared, all."""
        return self._file.claim(list(keys))

    def unclaim(self, keys: Sequence[bytes]) -> None:
        self._file.unclaim(list(keys))

    async def _make_room(self, connection: aiosqlite.Connection, entries: int) -> list[rows.Row]:
        freed = await make_room(connection, entries, dimensions=self._dimensions, max_bytes=self._max_bytes)
        self._evicted += len(freed)
        return freed

    def _count_dropped(self, entries: int, task: asyncio.Task[bool]) -> None:
        if task.cancelled() or not task.result():
            self._dropped += entries

    async def _do(self, work: Write) -> None:
        task = self._access.write(work)
        if task is None or not await asyncio.shield(task):
            raise self._useless()

    def _useless(self) -> StreamerError:
        return StreamerError(f"cache.path = {self._file.path} cannot be used: {self._access.reason or 'busy'}")

    def _checked(self, ours: Entries, found: Sequence[rows.Row], wanted: Container[bytes]) -> dict[bytes, Embedding]:
        """The entries that count, by key. What is damaged or expired is deleted, and last uses are noted, when there is
        time for it."""
        now = self._clock()
        hour = int(now // rows.HOUR)
        hits: dict[bytes, Embedding] = {}
        refused: list[rows.Row] = []
        touched: list[rows.Row] = []
        for row, embedding in zip(found, ours.decode(found, self._dimensions), strict=True):
            number, key, _, _, _, _, created, used = row
            if embedding and key not in wanted:  # another text at the same place
                continue
            # An entry of the future was stored before the clock was set back; it must not live the longer for that.
            if embedding and abs(now - created) < self._ttl:
                hits[key] = embedding
                if used != hour:
                    touched.append((hour, number))
                continue
            refused.append((number, created))
            if embedding:
                self._expired += 1
            else:
                self._damaged += 1

        async def settle(connection: aiosqlite.Connection, _: Entries) -> None:
            await connection.execute_fetchall("BEGIN IMMEDIATE")
            # By the time of storing as well: the row may have been stored again in the meantime.
            await run(connection, rows.DISCARD, refused)
            await run(connection, rows.TOUCH, touched)
            await connection.execute_fetchall("COMMIT")

        if refused or touched:
            self._access.write(settle)
        return hits
