"""Which process asks the provider for which text: a table in the lock file.

A row names a key and the number of its process. It counts for as long as that process holds the lock of its number; the
kernel drops the lock when the process ends, however it ends. So nothing expires, and a dead process holds up nobody.
A lock for each key would be simpler, but the kernel searches all locks of a file for each: milliseconds for a batch.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from streamer.adapters.sqlite.locks import LockFile

# Bytes of the lock file that are locked, and where the table begins.
TABLE = 2
FIRST_NUMBER = 1024
MOST_PROCESSES = 1024
START = 4096

BUCKETS = 4096
PLACES = 8  # of a bucket. Where eight texts of one bucket are asked for at once, the ninth is not noted.
_ROW = struct.Struct("<QI4x")  # key, number of the process: 0 for an empty row
_BUCKET_BYTES = PLACES * _ROW.size
_EMPTY = bytes(_ROW.size)

TRIES = 20
PAUSE_SECONDS = 0.0002  # between tries to lock the table, which is locked for the time of a claim


class Claims:
    """The claims of one user of the lock file. Without a table (a full disk), every key may be claimed by anybody."""

    def __init__(self, lock: LockFile) -> None:
        self._lock = lock
        self._number = 0
        self._rows: dict[bytes, int] = {}  # where in the file

    def claim(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those that no living process has claimed: ours until they are released."""
        with suppress(OSError), self._table() as is_locked:
            if is_locked:
                alive: dict[int, bool] = {}

                def is_alive(number: int) -> bool:
                    if number not in alive:
                        alive[number] = not self._lock.lock(FIRST_NUMBER + number)
                        if not alive[number]:
                            self._lock.unlock(FIRST_NUMBER + number)
                    return alive[number]

                return [key for key in keys if self._claim(key, is_alive)]
        return list(keys)

    def release(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if place := self._rows.pop(key, None):
                with suppress(OSError):
                    self._lock.write(place, _EMPTY)

    def _claim(self, key: bytes, is_alive: Callable[[int], bool]) -> bool:
        number = int.from_bytes(key[:8], "little")
        bucket = START + number % BUCKETS * _BUCKET_BYTES
        place = free_place(self._lock.read(bucket, _BUCKET_BYTES), number, self._number, is_alive)
        if place is None:
            return False
        if place < PLACES:
            self._rows[key] = bucket + place * _ROW.size
            self._lock.write(self._rows[key], _ROW.pack(number, self._number))
        return True

    @contextmanager
    def _table(self) -> Iterator[bool]:
        """The table locked; False when another process has it for too long, which can only have been stopped."""
        for _ in range(TRIES):
            if self._lock.lock(TABLE):
                try:
                    if not self._number:
                        self._number = self._enter()
                    yield self._number > 0
                finally:
                    self._lock.unlock(TABLE)
                return
            time.sleep(PAUSE_SECONDS)
        yield False

    def _enter(self) -> int:
        """A number of our own; what a dead process left under it is deleted. 0 when there is none."""
        for number in range(1, MOST_PROCESSES):
            if self._lock.lock(FIRST_NUMBER + number):
                table = self._lock.read(START, BUCKETS * _BUCKET_BYTES)
                for row, (_, owner) in enumerate(_ROW.iter_unpack(table)):
                    if owner == number:
                        self._lock.write(START + row * _ROW.size, _EMPTY)
                return number
        return 0


def free_place(bucket: bytes, key: int, mine: int, is_alive: Callable[[int], bool]) -> int | None:
    """Where in the bucket process `mine` notes the key; PLACES when all are taken, None when a living process has it.

    Pure. Rows of dead processes are free.
    """
    free = PLACES
    for place, (other, owner) in enumerate(_ROW.iter_unpack(bucket)):
        if owner and owner != mine and is_alive(owner):
            if other == key:
                return None
        elif owner != mine or other == key:
            free = min(free, place)
    return free
