"""A file that is replaced as a whole: a reader finds all of the old one or all of the new one, never a part."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from anyio import CancelScope
from anyio.to_thread import run_sync

if sys.platform != "win32":
    import fcntl


class SnapshotFile:
    """The file at `path`, written as `<path>.part` first. Every method may raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f"{path.name}.part")

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> BinaryIO:
        """For reading, in a thread; FileNotFoundError when there is none."""
        return self.path.open("rb")

    @asynccontextmanager
    async def replacing(self) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
        """What is written through the function it gives is in place, and on the disk, when the block ends; an error in
        the block, a full disk for instance, leaves the old file as it was."""
        file = await run_sync(self._begin)

        async def write(piece: bytes) -> None:
            await run_sync(file.write, piece)

        try:
            yield write
            await run_sync(self._put_in_place, file)
        except BaseException:
            with CancelScope(shield=True):
                await run_sync(self._discard, file)
            raise

    def _begin(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        try:
            if sys.platform != "win32":
                # Two processes must not write one file. What a killed one has left behind is not locked any more.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.stat(self._part)
            if (found.st_dev, found.st_ino) != (os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino):
                raise BlockingIOError  # put in place by the other one between our open and our lock
            if sys.platform != "win32":
                os.fchmod(descriptor, 0o600)  # it holds texts, and may have been left behind by an older version
            os.ftruncate(descriptor, 0)
        except BlockingIOError:
            os.close(descriptor)
            raise OSError(f"{self._part} is being written by another process") from None
        except BaseException:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "wb")

    def _put_in_place(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        if sys.platform == "win32":
            file.close()  # an open file cannot be renamed there; elsewhere the lock is kept until it is
        os.replace(self._part, self.path)
        file.close()
        if sys.platform != "win32":  # without this, a power cut may bring back the old one
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _discard(self, file: BinaryIO) -> None:
        # Removed while it is locked: afterwards it may be another's.
        with suppress(OSError):
            os.unlink(self._part)
        with suppress(OSError):
            file.close()  # it flushes, which may fail once more
