"""Claims of processes that share a lock file: one has a key at a time, and the dead have none."""

# ruff: noqa: ASYNC220 - a test may block its own loop

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.sqlite import claims
from streamer.adapters.sqlite.locks import LockFile
from streamer.embedding.cached import CachedEmbedder
from streamer.errors import RetriableError
from streamer.protocols import Claims, Embedding
from streamer.testing import HashEmbedder
from tests.adapters.sqlite.cached_entries import key_of, opened
from tests.worker.flows import until

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="files are shared on Linux only")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


async def test_a_key_is_claimed_by_one_at_a_time(path: Path) -> None:
    keys = [key_of(number) for number in range(300)]
    async with opened(path) as first, opened(path) as second:
        assert await first.claim(keys[:200]) == keys[:200]
        assert await second.claim(keys[100:]) == keys[200:]
        first.unclaim(keys[:150])
        second.unclaim(keys[:150])  # not its own: no harm
        assert await second.claim(keys[:200]) == keys[:150]
    async with opened(path) as third:
        assert await third.claim(keys) == keys


CLAIMER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, "")
from tests.adapters.sqlite.cached_entries import key_of, opened

async def main():
    async with opened(Path(sys.argv[1])) as cache:
        print(len(await cache.claim([key_of(number) for number in range(50)])), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_the_claims_of_a_killed_process_are_free_at_once(path: Path) -> None:
    keys = [key_of(number) for number in range(60)]
    async with opened(path) as cache:
        with subprocess.Popen([sys.executable, "-c", CLAIMER, path], stdout=subprocess.PIPE) as claimer:
            assert claimer.stdout
            assert await anyio.to_thread.run_sync(claimer.stdout.readline) == b"50\n"
            assert await cache.claim(keys) == keys[50:]
            claimer.kill()
            claimer.wait()
            async with opened(path) as heir:  # of its number, and not of its claims
                assert await heir.claim(keys[55:]) == []
                assert await cache.claim(keys[:50]) == keys[:50]


async def test_a_full_bucket_and_a_stopped_process_leave_keys_to_everybody(path: Path) -> None:
    alike = [number.to_bytes(8, "little") for number in range(0, 10 * claims.BUCKETS, claims.BUCKETS)]
    async with opened(path) as first, opened(path) as second:
        assert await first.claim(alike) == alike
        assert await second.claim(alike) == alike[8:]
        first.unclaim(alike)
        assert await second.claim(alike) == alike
        second.unclaim(alike)
        assert await first.claim(alike[:1]) == alike[:1]
        stopped = LockFile(Path(f"{path}.lock"))
        assert stopped.hold(shared=True)
        assert stopped.lock(claims.TABLE)
        assert await second.claim(alike) == alike
        stopped.release()
        assert await second.claim(alike) == alike[1:]


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([0, 1, 2, 3])), max_size=8), st.integers(1, 3))
def test_a_place_is_refused_only_for_a_key_of_a_living_other(rows: list[tuple[int, int]], key: int) -> None:
    """Processes 1 (ours) and 2 live, 3 is dead; 0 stands for none."""
    bucket = b"".join(struct.pack("<QI4x", *row) for row in [*rows, *[(0, 0)] * (8 - len(rows))])
    place = claims.free_place(bucket, key, 1, lambda number: number == 2)
    full = [*rows, *[(0, 0)] * (8 - len(rows))]
    if (key, 2) in rows:
        assert place is None
    else:
        free = [at for at, (other, owner) in enumerate(full) if owner in (0, 3) or (owner == 1 and other == key)]
        assert place == (free[0] if free else claims.PLACES)


class Told:
    """Claims that tell when some of the keys were another's."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self.refused = anyio.Event()

    async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        ours = await self._claims.claim(keys)
        if len(ours) < len(keys):
            self.refused.set()
        return ours

    def unclaim(self, keys: Sequence[bytes]) -> None:
        self._claims.unclaim(keys)


@pytest.mark.parametrize("end", ["answered", "failed", "cancelled"])
async def test_what_one_has_in_hand_another_waits_for_and_pays_for_only_if_it_must(end: str, path: Path) -> None:
    """Field case F13, first hour D3."""
    texts = ["late", "broken", "reject"]
    first, second, scope = HashEmbedder(), HashEmbedder(), anyio.CancelScope()
    first.gate = anyio.Event()
    async with opened(path, first.space) as one, opened(path, first.space) as other, anyio.create_task_group() as tasks:

        async def pay() -> None:
            with scope, suppress(RetriableError):
                await CachedEmbedder(first, one, one).embed(texts, "document")

        async def let_go() -> None:
            await told.refused.wait()
            assert not second.seen
            first.failure = RetriableError("away") if end == "failed" else None
            if end == "cancelled":
                scope.cancel()
            else:
                gate.set()

        told, gate = Told(other), first.gate
        tasks.start_soon(pay)
        await until(lambda: first.in_flight == 1)
        tasks.start_soon(let_go)
        outcomes = await CachedEmbedder(second, other, told).embed(texts, "document")
    assert [isinstance(outcome, Embedding) for outcome in outcomes] == [True, True, False]
    assert set(second.seen) == ({"reject"} if end == "answered" else set(texts))


async def test_a_third_process_that_comes_later_pays_for_nothing(path: Path) -> None:
    """Field case F13, first hour D3: it had a file of its own, which was empty."""
    texts = [f"text {number}" for number in range(50)]
    first, third = HashEmbedder(), HashEmbedder()
    async with opened(path, first.space) as one, opened(path, first.space) as other:
        await CachedEmbedder(first, one, one).embed(texts[:30], "document")
        await CachedEmbedder(first, other, other).embed(texts[20:], "document")
    assert max(first.seen.values()) == 1
    async with opened(path, third.space) as later:
        outcomes = await CachedEmbedder(third, later, later).embed(texts, "document")
    assert all(isinstance(outcome, Embedding) and outcome.cache_hit for outcome in outcomes)
    assert not third.seen
    assert len(list(path.parent.glob("*.sqlite*"))) <= 2, "the file and its lock"
