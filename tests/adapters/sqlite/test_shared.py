"""One cache file under several processes: writing at once, killed, stopped, deleting it, damaging it, clearing it."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from streamer.adapters.sqlite import file as file_module
from streamer.adapters.sqlite import read_contents
from streamer.adapters.sqlite.locks import TURN, LockFile
from tests.adapters.sqlite.cached_entries import entries, find, opened

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="files are shared on Linux only")]

# Stores the entries from argv[2] on, 20 at a time, and says after each how far it has come and how many of all those
# before it finds.
WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, "")
from tests.adapters.sqlite.cached_entries import entries, find, opened

async def main():
    async with opened(Path(sys.argv[1])) as cache:
        first = start = int(sys.argv[2])
        while True:
            await cache.put_many(entries(range(start, start + 20)))
            start += 20
            recent = range(max(first, start - 200), start)
            missing = len(recent) - len(await find(cache, recent))
            print("stored", start, missing, cache.statistics().faults_total, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


class Writer:
    """A process that writes to the file without a pause.

    `stored`: the next entry; `missing`: how many it did not find, at all its looks; `faults`: of its cache.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.stored = self.missing = self.faults = self.rounds = 0
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    async def goes_on(self, rounds: int = 1) -> None:
        """Until it has stored so often from now on."""
        done = self.rounds + rounds
        await anyio.to_thread.run_sync(self._reaches, done)

    def killed(self) -> None:
        self.process.kill()
        self._reader.join()

    def _reaches(self, rounds: int) -> None:
        with self._said:
            assert self._said.wait_for(lambda: self.rounds >= rounds, 60), "it does not go on"

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            word, *numbers = line.split()
            if word != b"stored" or not line.endswith(b"\n"):
                continue  # of the log, or cut off
            with self._said:
                self.stored, missing, self.faults = map(int, numbers)
                self.missing += missing
                self.rounds += 1
                self._said.notify_all()


@contextmanager
def writer(path: Path, start: int) -> Iterator[Writer]:
    with subprocess.Popen([sys.executable, "-c", WRITER, path, str(start)], stdout=subprocess.PIPE) as process:
        it = Writer(process)
        try:
            yield it
        finally:
            it.killed()


@asynccontextmanager
async def two_writers(path: Path) -> AsyncIterator[tuple[Writer, Writer]]:
    with writer(path, 0) as first, writer(path, 1_000_000) as second:
        for one in (first, second):
            await one.goes_on(3)
        yield first, second


def is_whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        checked: bool = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return checked


@pytest.mark.slow
async def test_two_that_write_and_are_killed_lose_nothing_they_had_stored(path: Path) -> None:
    """Field case F13, first hour D3."""
    chance, starts, stored = random.Random(4), [0, 1_000_000], [0, 1_000_000]
    for round_ in range(6):
        with writer(path, stored[0]) as first, writer(path, stored[1]) as second:
            both = [first, second]
            for one in both:
                await one.goes_on(chance.randrange(2, 20))
            chance.shuffle(both)
            both[0].killed()
            await both[1].goes_on(5)  # a dead process holds up nobody
            both[1].killed()
            stored = [first.stored, second.stored]
            assert [first.missing, second.missing, first.faults, second.faults] == [0] * 4
        if round_ % 3 == 2:
            async with opened(path) as cache:
                for start, end in zip(starts, stored, strict=True):
                    assert await find(cache, range(start, end)) == list(range(start, end))
            assert is_whole(path)
    assert not list(path.parent.glob("*corrupt*"))


@pytest.mark.slow
async def test_one_deletes_the_file_and_all_write_to_the_new_one(path: Path) -> None:
    async with two_writers(path) as both:
        for round_ in range(6):
            # Once with all that stands beside it, once without its log, once without its lock.
            doomed = [path.parent.glob(f"{path.name}*"), [path], [path, Path(f"{path}.lock")]][round_ % 3]
            for file in doomed:
                file.unlink(missing_ok=True)
            for one in both:
                await one.goes_on(10)
                assert one.faults == 0
            async with opened(path) as cache:
                for last in [one.stored - 1 for one in both]:
                    assert await find(cache, [last]) == [last]
    assert is_whole(path)
    assert not list(path.parent.glob("*corrupt*"))


@pytest.mark.slow
async def test_a_file_damaged_under_both_is_set_aside_once(path: Path) -> None:
    async with two_writers(path) as both:
        for round_ in range(3):
            for part in (path, Path(f"{path}-wal")):
                with part.open("r+b") as file:
                    file.write(random.Random(round_).randbytes(part.stat().st_size))
            for one in both:
                await one.goes_on(10)
            place = os.stat(path).st_ino
            for one in both:
                await one.goes_on(10)
            assert os.stat(path).st_ino == place, "whoever finds the damage late must not set the new file aside"
            async with opened(path) as cache:
                for last in [one.stored - 1 for one in both]:
                    assert await find(cache, [last]) == [last]
    assert is_whole(path)
    assert len(list(path.parent.glob("*.corrupt-??????????"))) == 1


async def test_damage_found_late_does_not_set_the_new_file_aside(path: Path) -> None:
    damage = sqlite3.DatabaseError("database disk image is malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    with capture_logs() as logs:
        async with opened(path) as first, opened(path) as second:
            late = second._access._connection
            assert first._access._connection
            assert late
            await first._access._fault(first._access._connection, damage)
            await first.put_many(entries([1]))
            await second._access._fault(late, damage)
            assert await find(second, [1]) == [1]
            await second.put_many(entries([2]))
            assert await find(first, [1, 2]) == [1, 2]
    assert [line["event"] for line in logs] == ["cache file damaged; starting an empty one"]


@pytest.mark.slow
async def test_cleared_and_pruned_and_counted_while_two_write(path: Path) -> None:
    async with two_writers(path) as both:
        for _ in range(3):
            async with opened(path, next_if_taken=False) as command:
                await command.put_many(entries(range(5_000_000, 5_002_500)))
                await command.clear()
                assert await find(command, range(5_000_000, 5_002_500)) == []
            async with opened(path, next_if_taken=False, max_bytes=400_000) as command:
                await command.prune()
            [contents] = await read_contents(path)
            assert contents.path == str(path)
            for one in both:
                await one.goes_on(10)
                assert one.faults == 0
    assert is_whole(path)


async def test_a_stopped_process_in_its_turn_is_not_waited_for_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "TURN_SECONDS", 0.2)
    async with opened(path) as cache:
        await cache.put_many(entries([1]))
        await cache.stats()  # when it has tidied up
        other = LockFile(Path(f"{path}.lock"))
        assert other.hold(shared=True)
        assert other.lock(TURN)
        with capture_logs() as logs:
            await cache.put_many(entries([2]))
            assert await find(cache, [1, 2]) == [1]
            other.release()
            await cache.put_many(entries([2]))
            assert await find(cache, [1, 2]) == [1, 2]
        assert cache.statistics().dropped_total == 1
    assert "another process is writing" in logs[0]["reason"]


@pytest.mark.slow
async def test_a_process_that_was_stopped_goes_on_where_it_was(path: Path) -> None:
    async with two_writers(path) as (first, second):
        for _ in range(2):
            first.process.send_signal(signal.SIGSTOP)
            await second.goes_on(2)  # at most one turn is waited for
            first.process.send_signal(signal.SIGCONT)
            await first.goes_on(20)
            await second.goes_on(20)
    assert is_whole(path)
