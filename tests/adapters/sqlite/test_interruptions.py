"""The cache when its callers are cancelled and its processes end or are killed."""

# ruff: noqa: ASYNC220 - a test may block its own loop

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from streamer.adapters.sqlite import access
from streamer.adapters.sqlite import cache as cache_module
from tests.adapters.sqlite.cached_entries import entries, find, no_thread_is_left, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


@pytest.mark.slow
async def test_two_hundred_cancelled_writes_leave_no_transaction_and_lose_nothing_of_others(path: Path) -> None:
    chance = random.Random(8)
    async with opened(path) as cache:
        for round_ in range(200):
            start = 1000 + round_ * 10
            doomed = asyncio.create_task(cache.put_many(entries(range(start, start + 10))))
            beside = asyncio.create_task(cache.put_many(entries([round_])))
            for _ in range(chance.randrange(1, 40)):
                await asyncio.sleep(0)
            doomed.cancel()
            await asyncio.wait([doomed, beside])
        with anyio.CancelScope() as scope:
            scope.cancel()
            await cache.put_many(entries([1]))
        await cache.stats()
        assert not cache._access._connection.in_transaction  # type: ignore[union-attr]
        assert await find(cache, range(200)) == list(range(200))
        assert await find(cache, range(1000, 3000)) == list(range(1000, 3000))
        assert (cache.statistics().dropped_total, cache.statistics().faults_total) == (0, 0)


@pytest.mark.slow
async def test_cancelled_while_it_opens_it_leaves_no_thread(path: Path) -> None:
    async def use() -> None:
        async with opened(path) as cache:
            await find(cache, [1])

    for ticks in range(60):
        task = asyncio.create_task(use())
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        with anyio.CancelScope() as scope:
            scope.cancel()
            await use()
        assert no_thread_is_left()
    await use()


async def test_no_more_than_so_many_writes_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "PATIENCE_SECONDS", 0.01)
    async with opened(path) as cache:
        async with cache._access._turn:  # the disk is slow
            for number in range(access.MOST_WRITES + 3):
                await cache.put_many(entries([number]))
            assert cache.statistics().dropped_total == 3
            assert await find(cache, range(3)) == []
        await cache.stats()
        assert await find(cache, range(access.MOST_WRITES + 3)) == list(range(access.MOST_WRITES))


WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, "")
from tests.adapters.sqlite.cached_entries import entries, opened

async def main():
    async with opened(Path(sys.argv[1])) as cache:
        start = int(sys.argv[2])
        while True:
            await cache.put_many(entries(range(start, start + 20)))
            start += 20
            print(start, flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_killed_in_the_middle_of_commits_it_loses_nothing_it_had_stored(path: Path) -> None:
    stored, chance = 0, random.Random(4)
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER, path, str(stored)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            for _ in range(chance.randrange(1, 25)):
                stored = int(await anyio.to_thread.run_sync(writer.stdout.readline))
            writer.kill()
            rest = writer.stdout.read().split()
            stored = int(rest[-1]) if rest else stored
        async with opened(path, next_if_taken=False) as cache:
            assert await find(cache, range(stored)) == list(range(stored))
            assert cache.statistics().faults_total == 0
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    assert not list(path.parent.glob("*corrupt*"))


ENDINGS = {
    "an exception": ("raise OSError('something else')", 1),
    "sys.exit": ("sys.exit(7)", 7),
    "sys.exit in another task": ("asyncio.get_running_loop().call_soon(sys.exit, 7); await asyncio.sleep(60)", 7),
    "an interrupt": ("os.kill(os.getpid(), 2); await asyncio.sleep(60)", 130),
    "an interrupt in a write": (
        "writes = asyncio.gather(*(cache.put_many(entries(range(i, i + 99))) for i in range(9)));"
        "await asyncio.sleep(0); os.kill(os.getpid(), 2); await writes",
        130,
    ),
    "cancellation": ("asyncio.current_task().cancel(); await asyncio.sleep(60)", 1),
}


QUICK = {"an exception", "an interrupt in a write"}  # the others are the same to the file, and a process each


@pytest.mark.parametrize(
    "ending", [ending if ending in QUICK else pytest.param(ending, marks=pytest.mark.slow) for ending in ENDINGS]
)
def test_the_process_ends_however_the_work_does(path: Path, ending: str) -> None:
    body, code = ENDINGS[ending]
    program = textwrap.dedent(f"""
        import asyncio, os, sys
        from pathlib import Path
        sys.path.insert(0, "")
        from tests.adapters.sqlite.cached_entries import entries, opened

        async def main():
            async with opened(Path(sys.argv[1])) as cache:
                await cache.put_many(entries(range(9)))
                {body}

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    done = subprocess.run([sys.executable, "-c", program, path], timeout=60, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) >= 9 FROM entry").fetchone() == (1,)
