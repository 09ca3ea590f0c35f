"""The lock file beside a cache file: who uses the cache file, and whose turn it is to write.

The kernel keeps the locks and drops them when their process ends, however it ends: a dead process holds up nobody.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# Locks of an open file, not of a process: two caches of one process exclude each other as well, and no other descriptor
# of the file that is closed drops them. Linux has them; the layout is that of its `struct flock`.
SET_LOCK: int | None = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None
_FLOCK = struct.Struct("@hhqqi4x")

# Bytes of the lock file, which need not exist to be locked.
TURN = 0
PROBE = 1


class LockFile:
    """One `<path>.lock`. Nothing here waits; every method may be called at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def is_held(self) -> bool:
        """False when the file was deleted, too: a lock on a file that nobody finds keeps nobody out."""
        if self._descriptor is None:
            return False
        with suppress(OSError):
            return identity(os.stat(self.path)) == identity(os.fstat(self._descriptor))
        return False

    def hold(self, *, shared: bool) -> bool:
        """Use the cache file, with others that share it or alone, until `release`. False when others do not allow it.

        Raises OSError where there can be no such lock.
        """
        self.release()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform != "win32":
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if not shared:  # nobody else has it then: what stands in it is from before
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def holder(self) -> str:
        """The process that holds the file alone, as far as it is known."""
        with suppress(OSError), self.path.open("rb") as file:
            return file.read(20).decode("ascii", "replace").strip("\0")
        return ""

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def lock(self, byte: int) -> bool:
        """False while another one has locked this byte. Raises OSError where bytes cannot be locked."""
        try:
            self._set(byte, fcntl.F_WRLCK)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, byte: int) -> None:
        with suppress(OSError):  # released meanwhile, and the lock with it
            self._set(byte, fcntl.F_UNLCK)

    def read(self, start: int, size: int) -> bytes:
        """Of the content; zeros where there is none."""
        return os.pread(self._opened(), size, start).ljust(size, b"\0")

    def write(self, start: int, content: bytes) -> None:
        os.pwrite(self._opened(), content, start)

    def _opened(self) -> int:
        if self._descriptor is None:
            raise OSError("no lock file is open")
        return self._descriptor

    def _set(self, byte: int, kind: int) -> None:
        if SET_LOCK is None:
            raise OSError("this system has no such locks")
        fcntl.fcntl(self._opened(), SET_LOCK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))


def why_not_shared(path: Path) -> str | None:
    """Why processes cannot share a cache file with this lock file; None when they can.

    Raises OSError when the lock file cannot be opened.
    """
    if SET_LOCK is None:
        return f"{sys.platform} lacks the locks for it"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.fcntl(descriptor, SET_LOCK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, PROBE, 1, 0))
    except (BlockingIOError, PermissionError):
        return None
    except OSError as exc:
        return f"its file system lacks the locks for it: {exc}"
    finally:
        os.close(descriptor)
    return None


def identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
