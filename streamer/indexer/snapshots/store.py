"""An indexer's memory on disk: saved now and then, loaded at the start if it can be relied on.

It saves a restart from reading the whole topic, and what the judge has learned from being learned anew. It is never
needed: whatever is wrong with it, the topic has it all.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field, replace
from io import SEEK_END
from typing import BinaryIO, Protocol

import structlog
from anyio.to_thread import run_sync

from streamer.core.outages import Outage
from streamer.indexer.snapshots.format import (
    Cut,
    Facts,
    Header,
    Offsets,
    SnapshotReader,
    TopicBounds,
    UnusableSnapshot,
    check,
    encode,
)
from streamer.indexer.verdicts.judge import Judge

log = structlog.get_logger(__name__)

_MARGIN = 0.9  # of the time that tombstones are kept: reading them takes a while, too
_RENEWALS = 8  # in that time, when nothing has changed


class ReplaceableFile(Protocol):
    """A file that changes as a whole. All of it may raise OSError."""

    def open(self) -> BinaryIO: ...

    def replacing(self) -> AbstractAsyncContextManager[Callable[[bytes], Awaitable[None]]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStatistics:
    """`ignored`: why the one found at the start was not used. `error`: why the last attempt to write one failed."""

    loaded: bool = field(metadata={"help": "Whether a snapshot was loaded at the start."})
    ignored: str | None
    age_seconds: float | None = field(
        metadata={"help": "Seconds since the snapshot was last known to hold all that there was."}
    )
    vectors: int = field(metadata={"help": "Vectors in the snapshot."})
    bytes: int = field(metadata={"help": "Size of the snapshot file."})
    write_seconds: float = field(metadata={"help": "Seconds that the last write took."})
    saved_total: int = field(metadata={"help": "Snapshots written."})
    failures_total: int = field(metadata={"help": "Attempts to write a snapshot that failed."})
    error: str | None


@contextmanager
def reading(file: ReplaceableFile) -> Iterator[tuple[SnapshotReader, int]]:
    """What reads the file, and how many bytes that has. Raises UnusableSnapshot and OSError; belongs in a thread."""
    with file.open() as opened:
        size = opened.seek(0, SEEK_END)
        opened.seek(0)
        yield SnapshotReader(opened.read, size), size


class Snapshots:
    """One indexer's snapshot. `interval`: seconds from one to the next. `facts`: what the surroundings must have in
    common with those that it was made in (see Header). `tombstones_kept`: seconds for which the topic keeps deletions.
    `shared`: its partitions are not always the same, and those that are not ours now say nothing about it. `clock`:
    seconds since the epoch.
    """

    def __init__(
        self,
        file: ReplaceableFile,
        facts: Facts,
        *,
        interval: float = 300.0,
        tombstones_kept: float = 86_400.0,
        shared: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.facts = facts
        self.interval = interval
        self.clock = clock
        self._file = file
        self._most = _MARGIN * tombstones_kept
        self._shared = shared
        self._latest: Header | None = None  # of what is in the file, if that can be used
        self._current_at = 0.0
        self._loaded = False
        self._ignored: str | None = None
        self.error: str | None = None  # why there is no newer one, after an attempt that failed
        self._outage = Outage(settle=0.0)
        self._bytes = self._saved = self._failures = 0
        self._write_seconds = 0.0

    def problem(self) -> str | None:
        """Why there is no newer one, after an attempt that failed."""
        return None if self.error is None else f"snapshot: {self.error}"

    def statistics(self) -> SnapshotStatistics:
        return SnapshotStatistics(
            loaded=self._loaded,
            ignored=self._ignored,
            age_seconds=None if self._latest is None else max(0.0, self.clock() - self._current_at),
            vectors=0 if self._latest is None else self._latest.vectors,
            bytes=self._bytes,
            write_seconds=self._write_seconds,
            saved_total=self._saved,
            failures_total=self._failures,
            error=self.error,
        )

    async def load(self, judge: Judge, facts: Facts, bounds: TopicBounds) -> Header | None:
        """Make a new judge what the file remembers. None, and the judge is to be thrown away, when there is no file or
        it cannot be relied on; the log says why."""
        began = time.monotonic()
        try:
            # Left alone when the process is to end: the judge is thrown away then.
            header = await run_sync(self._read, judge, facts, bounds, abandon_on_cancel=True)
        except FileNotFoundError:
            return None
        except (UnusableSnapshot, OSError) as exc:
            self._ignored = str(exc)
            log.warning("snapshot ignored; rebuilding the index from the topic", path=str(self._file), reason=str(exc))
            return None
        self._loaded = True
        self._latest, self._current_at = header, header.read_at
        seconds = time.monotonic() - began
        log.info("snapshot loaded", path=str(self._file), vectors=header.vectors, seconds=round(seconds, 1))
        return header

    def _read(self, judge: Judge, facts: Facts, bounds: TopicBounds) -> Header:
        with reading(self._file) as (reader, size):
            age = self.clock() - reader.header.read_at
            header = reader.header
            if self._shared:
                ours = {tp: offset for tp, offset in header.offsets.items() if tp in bounds.end_offsets}
                header = replace(header, offsets=ours)
            check(header, facts, bounds, age=age, most=self._most)
            reader.rebuild(judge)
        self._bytes = size
        return header

    def has(self, offsets: Offsets, read_at: float) -> bool:
        """Whether the file holds just that. Now and then it does not count, so that an idle topic's does not get too
        old."""
        if self._latest is None or self._latest.offsets != offsets:
            return False
        self._current_at = self.clock()
        return read_at - self._latest.read_at < self._most / _RENEWALS

    async def save(self, cut: Cut, until_allowed: Callable[[], Awaitable[object]]) -> None:
        """Write it, and put it in place once it is allowed. When that fails, the old one stays and the log says why."""
        began = time.monotonic()
        size = 0
        pieces = encode(cut)
        try:
            async with self._file.replacing() as write:
                while piece := await run_sync(next, pieces, None):
                    await write(piece)
                    size += len(piece)
                seconds = time.monotonic() - began
                await until_allowed()
        except OSError as exc:
            self._failures += 1
            self.error = str(exc)
            self._tell(self.error)
            return
        finally:
            cut.view.release()
        self.error = None
        self._saved += 1
        self._bytes, self._write_seconds = size, seconds
        self._latest, self._current_at = cut.header, self.clock()
        self._tell(None)
        log.debug(
            "snapshot written",
            path=str(self._file),
            vectors=cut.header.vectors,
            bytes=size,
            seconds=round(seconds, 1),
        )

    def _tell(self, reason: str | None) -> None:
        """Of the first snapshot that cannot be written, and of the first one that can again."""
        if transition := self._outage.observe(reason, time.monotonic()):
            level, event, facts = transition.line("snapshot")
            log.log(level, event, path=str(self._file), **facts)
