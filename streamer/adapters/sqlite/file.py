"""A cache file on disk: whose it is, how it is opened, and what happens to it when it is damaged.

SQLite before 3.51.3 can corrupt a file in WAL mode when two connections write at once, and Python links what the system
has. So a file belongs to one connection of one process, which holds a lock on a file beside it (`<path>.lock`, which
stays there). A second worker with the same settings takes the next free name, `<path>-2`, `<path>-3` and so on: each
has a cache of its own, and finds it again when as many workers are started another time. Where the system has no
`flock` (Windows) nothing is locked, and each worker must be given a path of its own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio
import structlog

from streamer.adapters.sqlite.rows import ADD_SPACE, FIND_SPACE, FIND_TABLES, PRAGMAS, TABLES, VERSION, get
from streamer.core.vectors import Space
from streamer.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

T = TypeVar("T")

COMPANIONS = ("", "-wal", "-shm")
MOST_FILES = 100
BUSY_SECONDS = 1.0  # that SQLite waits for a lock of another program
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

log = structlog.get_logger(__name__)


class CacheFile:
    """The file at `path`, or with `next_if_taken` the first of `<path>-2`, `<path>-3`, ... that nobody has.

    `path` is the file in use once `open` was called.
    """

    def __init__(self, path: Path, *, next_if_taken: bool) -> None:
        self.path = path
        self._wanted = path
        self._next_if_taken = next_if_taken
        self._lock: int | None = None
        self._identity: tuple[int, int] | None = None

    async def open(self, space: Space) -> tuple[aiosqlite.Connection, int]:
        """A connection in autocommit mode, and the number of the space in the file. A damaged file is set aside first.

        Raises sqlite3.Error or OSError when there can be no such file just now, and ConfigurationError when the file is
        somebody else's database or, without `next_if_taken`, in use.
        """
        await asyncio.to_thread(self._claim)
        try:
            return await self._connect(space)
        except sqlite3.Error as exc:
            # Our statements are right, so a plain ERROR means that the tables are not.
            if not is_damage(exc) and code_of(exc) != sqlite3.SQLITE_ERROR:
                raise
            await asyncio.to_thread(self.set_aside, str(exc))
            return await self._connect(space)

    def is_in_place(self) -> bool:
        """Whether the path still leads to the file that was opened, and not to nothing or another one."""
        with suppress(OSError):
            return _identity(os.stat(self.path)) == self._identity
        return False

    def set_aside(self, reason: str) -> None:
        """Rename a damaged file to `<path>.corrupt-<seconds since 1970>`; only the latest one is kept."""
        for old in self.path.parent.iterdir():
            if old.name.startswith(f"{self.path.name}.corrupt-"):
                old.unlink()
        aside = f"{self.path}.corrupt-{int(time.time())}"
        for suffix in COMPANIONS:
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}{suffix}", aside + suffix)
        log.warning("cache file damaged; starting an empty one", path=str(self.path), set_aside=aside, reason=reason)

    def release(self) -> None:
        """Let another process have the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _connect(self, space: Space) -> tuple[aiosqlite.Connection, int]:
        await asyncio.to_thread(_create_for_us_alone, self.path)
        connection = await aiosqlite.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            # The tables first: a database of something else is to stay as it is.
            tables = {name for (name,) in await connection.execute_fetchall(FIND_TABLES)}
            if tables and not {"space", "entry"} <= tables:
                raise ConfigurationError(f"cache.path = {self.path} is an SQLite file that streamer did not create")
            for pragma in PRAGMAS:
                await connection.execute_fetchall(pragma)
            for statement in () if tables else ("BEGIN IMMEDIATE", *TABLES, "COMMIT"):
                await connection.execute_fetchall(statement)
            [[version]] = await connection.execute_fetchall("PRAGMA user_version")
            if version != VERSION:
                raise Unusable(f"version {version} of the tables, where {VERSION} is ours")
            space_id = await _number_of(space, connection)
            await connection.execute_fetchall(*get(space_id, []))
            self._identity = _identity(os.stat(self.path))
        except BaseException:
            await connection.close()
            raise
        return connection, space_id

    def _claim(self) -> None:
        if self._has_lock():
            return
        self.release()
        self._wanted.parent.mkdir(parents=True, exist_ok=True)
        for path in names(self._wanted) if self._next_if_taken else [self._wanted]:
            self._lock = _lock(Path(f"{path}.lock"))
            if self._lock is not None:
                if path != self._wanted:
                    log.info(
                        "cache file in use by another process; using another file",
                        path=str(self._wanted),
                        instead=str(path),
                    )
                self.path = path
                return
        raise ConfigurationError(f"cache.path = {self._wanted} is in use{_holder(self._wanted)}")

    def _has_lock(self) -> bool:
        if self._lock is None:
            return False
        # A lock on a file that was deleted keeps nobody out.
        with suppress(OSError):
            return _identity(os.stat(f"{self.path}.lock")) == _identity(os.fstat(self._lock))
        return False


async def _number_of(space: Space, connection: aiosqlite.Connection) -> int:
    # Looked for before it is added, as a file that can only be read may still have it.
    if not (found := list(await connection.execute_fetchall(FIND_SPACE, [space.id]))):
        await connection.execute_fetchall(ADD_SPACE, [space.id, f"{space.provider} {space.model}"])
        found = list(await connection.execute_fetchall(FIND_SPACE, [space.id]))
    return int(found[0][0])


def names(path: Path) -> list[Path]:
    """What the cache files of workers with the same settings are called."""
    return [path, *(Path(f"{path}-{number}") for number in range(2, MOST_FILES + 1))]


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


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock for as long as it is open; None when another one holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _create_for_us_alone(path: Path) -> None:
    """Vectors tell much of their texts. SQLite gives its other files this mode, too. What exists stays as it is."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _holder(path: Path) -> str:
    with suppress(OSError):
        return f" by process {Path(f'{path}.lock').read_text() or 'unknown'}"
    return ""


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
