"""A cache file on disk: whose it is, how it is opened, and what happens to it when it is damaged.

Processes share the file. Any number of them read, one at a time writes, opens, closes or replaces it: that is its turn,
a lock in a file beside it (`<path>.lock`, which stays there). SQLite has locks of its own, and they are not enough:

- Before 3.51.3, SQLite can corrupt a file in WAL mode when two connections write or checkpoint at once, and Python
  links what the system has. Commits, the checkpoints that they bring, and closing happen in a turn.
- SQLite finds `-wal` and `-shm` by name. A file that is renamed between opening it and opening those, or created anew
  beside those of a deleted one, would be given the log of another file.

Where a file cannot be shared (a network file system has no memory that two machines share; macOS and Windows lack the
locks), it belongs to one process. A second process takes the next free name, `<path>-2`, `<path>-3` and so on, and
finds it again when as many processes are started another time.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio
import structlog

from streamer.adapters.sqlite import rows
from streamer.adapters.sqlite.claims import Claims
from streamer.adapters.sqlite.entries import VERSIONS, Entries
from streamer.adapters.sqlite.locks import TURN, LockFile, identity, why_not_shared
from streamer.adapters.sqlite.mounts import network_file_system
from streamer.core.vectors import Space
from streamer.errors import ConfigurationError

T = TypeVar("T")

LOGS = ("-wal", "-shm")
COMPANIONS = ("", *LOGS)
MOST_FILES = 100
BUSY_SECONDS = 1.0  # that SQLite waits for a lock of another program
TURN_SECONDS = 5.0  # that a turn is waited for: another process has it for milliseconds, unless it was stopped
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# Extended codes of SQLite that say that its shared memory cannot be had: SHMOPEN, SHMSIZE, SHMLOCK, SHMMAP.
NO_SHARED_MEMORY = tuple(sqlite3.SQLITE_IOERR | number << 8 for number in (18, 19, 20, 21))

log = structlog.get_logger(__name__)


class CacheFile:
    """The file at `path`, shared. Where it cannot be: with `next_if_taken` the first of `<path>-2`, ... that is free.

    `path` is the file in use once a turn was had.
    """

    def __init__(self, path: Path, *, next_if_taken: bool) -> None:
        self.path = path
        self.is_shared = True
        self._wanted = path
        self._next_if_taken = next_if_taken
        self._lock = LockFile(_lock_path(path))
        self._claims = Claims(self._lock)
        self._ours = asyncio.Lock()  # locks in a file do not keep tasks apart that use one descriptor
        self._identities: dict[str, tuple[int, int]] = {}

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Nobody else writes, opens, closes or replaces the file meanwhile.

        Raises NoTurn after TURN_SECONDS, OSError when there can be no such file just now, and ConfigurationError when
        it is another process's own and `next_if_taken` is off.
        """
        async with self._ours:
            if not self._lock.is_held():
                await asyncio.to_thread(self._hold)
            if self.is_shared:
                await self._locked(TURN)
                try:
                    yield
                finally:
                    self._lock.unlock(TURN)
            else:
                yield

    async def open(self, space: Space) -> tuple[aiosqlite.Connection, Entries]:
        """In a turn: a connection in autocommit mode, and the entries of the space. A damaged file is set aside first.

        Raises sqlite3.Error or OSError when there can be no such file just now, and ConfigurationError when the file is
        somebody else's database.
        """
        try:
            return await self._connect(space)
        except sqlite3.Error as exc:
            if self.is_shared and getattr(exc, "sqlite_errorcode", None) in NO_SHARED_MEMORY:
                self._share_no_longer(str(exc))
                await asyncio.to_thread(self._hold)
            # Our statements are right, so a plain ERROR means that the tables are not.
            elif is_damage(exc) or code_of(exc) == sqlite3.SQLITE_ERROR:
                await asyncio.to_thread(self._rename, str(exc))
            else:
                raise
            return await self._connect(space)

    def is_in_place(self) -> bool:
        """Whether the path still leads to the file that was opened, and not to nothing or another one."""
        return _identity_of(self.path) == self._identities.get("")

    def set_aside(self, reason: str) -> None:
        """In a turn: rename the damaged file that was opened. Does nothing when another process has done so already.

        Those that still have it open read it under its new name until they notice. They do no harm to its successor:
        SQLite deletes no log by name once the database is no longer where it was.
        """
        if self.is_in_place():
            self._rename(reason)

    def claim(self, keys: list[bytes]) -> list[bytes]:
        return self._claims.claim(keys) if self.is_shared else keys

    def unclaim(self, keys: list[bytes]) -> None:
        self._claims.release(keys)

    def release(self) -> None:
        """Let other processes have the file."""
        self._lock.release()

    async def _locked(self, byte: int) -> None:
        until, pause = asyncio.get_running_loop().time() + TURN_SECONDS, 0.001
        while not self._lock.lock(byte):
            if asyncio.get_running_loop().time() > until:
                raise NoTurn("another process is writing the file and does not end")
            await asyncio.sleep(pause)
            pause = min(0.01, pause * 1.5)

    def _rename(self, reason: str) -> None:
        # `<path>.corrupt-<seconds since 1970>`; only the latest one is kept.
        for old in self.path.parent.iterdir():
            if old.name.startswith(f"{self.path.name}.corrupt-"):
                old.unlink()
        aside = f"{self.path}.corrupt-{int(time.time())}"
        for suffix in COMPANIONS:
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}{suffix}", aside + suffix)
        log.warning("cache file damaged; starting an empty one", path=str(self.path), set_aside=aside, reason=reason)

    async def _connect(self, space: Space) -> tuple[aiosqlite.Connection, Entries]:
        self._forget_old_logs()
        await asyncio.to_thread(_create_for_us_alone, self.path)
        connection = await aiosqlite.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            # The tables first: a database of something else is to stay as it is.
            for pragma in () if self.is_shared else (rows.EXCLUSIVE,):
                await connection.execute_fetchall(pragma)
            tables = {name for (name,) in await connection.execute_fetchall(rows.FIND_TABLES)}
            if tables and not {"space", "entry"} <= tables:
                raise ConfigurationError(f"cache.path = {self.path} is an SQLite file that streamer did not create")
            for pragma in (f"PRAGMA page_size = {rows.page_size(space.dimensions)}", *rows.PRAGMAS):
                await connection.execute_fetchall(pragma)
            for statement in () if tables else ("BEGIN IMMEDIATE", *rows.TABLES, "COMMIT"):
                await connection.execute_fetchall(statement)
            [[page_bytes]] = await connection.execute_fetchall("PRAGMA page_size")
            await connection.execute_fetchall(f"PRAGMA wal_autocheckpoint = {rows.LOG_BYTES // page_bytes}")
            [[version]] = await connection.execute_fetchall("PRAGMA user_version")
            if version not in VERSIONS:
                raise Unusable(f"version {version} of the tables, where those up to {max(VERSIONS)} are known")
            entries = VERSIONS[version](await _number_of(space, connection))
            await connection.execute_fetchall(*entries.find([]))
            found = {suffix: _identity_of(f"{self.path}{suffix}") for suffix in COMPANIONS}
            self._identities = {suffix: known for suffix, known in found.items() if known}
        except BaseException:
            await connection.close()
            raise
        return connection, entries

    def _forget_old_logs(self) -> None:
        """Delete the logs of a file that is no longer there: SQLite would take them for those of the one to come."""
        is_gone = not self.path.exists()
        was_replaced = bool(self._identities) and not self.is_in_place()
        for suffix in LOGS:
            path = f"{self.path}{suffix}"
            known = self._identities.get(suffix)
            if is_gone or (was_replaced and known and _identity_of(path) == known):
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def _hold(self) -> None:
        self._lock.release()
        self._wanted.parent.mkdir(parents=True, exist_ok=True)
        if self.is_shared:
            if kind := network_file_system(self._wanted.parent):
                self._share_no_longer(f"it is on a network file system ({kind})")
            elif reason := why_not_shared(_lock_path(self._wanted)):
                self._share_no_longer(reason)
        for path in names(self._wanted) if self._next_if_taken else [self._wanted]:
            self._lock = LockFile(_lock_path(path))
            self._claims = Claims(self._lock)
            if self._lock.hold(shared=self.is_shared):
                if path != self._wanted:
                    log.info(
                        "cache file in use by another process; using another file",
                        path=str(self._wanted),
                        instead=str(path),
                    )
                self.path = path
                return
        raise ConfigurationError(f"cache.path = {self._wanted} is in use{_holder(self._wanted)}")

    def _share_no_longer(self, reason: str) -> None:
        self._lock.release()
        self.is_shared = False
        log.warning("cache file cannot be shared; each process uses its own", path=str(self._wanted), reason=reason)


async def _number_of(space: Space, connection: aiosqlite.Connection) -> int:
    # Looked for before it is added, as a file that can only be read may still have it.
    if not (found := list(await connection.execute_fetchall(rows.FIND_SPACE, [space.id]))):
        await connection.execute_fetchall(rows.ADD_SPACE, [space.id, f"{space.provider} {space.model}"])
        found = list(await connection.execute_fetchall(rows.FIND_SPACE, [space.id]))
    return int(found[0][0])


def names(path: Path) -> list[Path]:
    """What the cache files of workers with the same settings are called."""
    return [path, *(Path(f"{path}-{number}") for number in range(2, MOST_FILES + 1))]


class NoTurn(TimeoutError):
    """Another process has had its turn for too long."""


class Unusable(sqlite3.DatabaseError):
    """A file of another version of this program."""


def is_damage(exc: Exception | None) -> bool:
    return isinstance(exc, Unusable) or code_of(exc) in DAMAGE


def code_of(exc: Exception | None) -> int | None:
    """The primary result code, if SQLite gave one."""
    code: int | None = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of something that must not be left half done; a cancellation waits until it is done.

    aiosqlite's thread outlives a connection that was being opened, or was never closed, and keeps the process alive.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    # The scope keeps anyio from cancelling again and again, the loop endures asyncio's own way.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = exc
    if cancelled:
        raise cancelled
    return task.result()


def _lock_path(path: Path) -> Path:
    return Path(f"{path}.lock")


def _create_for_us_alone(path: Path) -> None:
    """Vectors tell much of their texts. SQLite gives its other files this mode, too. What exists stays as it is."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _holder(path: Path) -> str:
    holder = LockFile(_lock_path(path)).holder()
    return f" by process {holder}" if holder else ""


def _identity_of(path: str | Path) -> tuple[int, int] | None:
    with suppress(OSError):
        return identity(os.stat(path))
    return None
