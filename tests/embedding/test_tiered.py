"""A cache of this machine before one that machines share, and memory before either."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from streamer.core.vectors import cache_key
from streamer.embedding.recent_vectors import RecentVectors
from streamer.embedding.tiered import RecentFirst, TieredCache
from streamer.protocols import Embedding
from streamer.testing import MemoryCache, vector_of

pytestmark = pytest.mark.anyio


class Tier(MemoryCache):
    """`taken`: claimed by other processes; `ours`: by this one."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: set[bytes] = set()
        self.ours: set[bytes] = set()

    async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        await anyio.lowlevel.checkpoint()
        free = [key for key in keys if key not in self.taken]
        self.ours.update(free)
        return free

    def unclaim(self, keys: Sequence[bytes]) -> None:
        self.ours.difference_update(keys)


def entries(*texts: str) -> dict[bytes, Embedding]:
    return {cache_key(text, "document"): Embedding(vector_of(text), 1, False) for text in texts}


async def test_what_the_far_one_has_is_asked_for_once() -> None:
    near, far = Tier(), Tier()
    cache = TieredCache(near, far)
    await far.put_many(entries("a", "b"))
    await near.put_many(entries("c"))
    keys = list(entries("a", "b", "c", "d"))
    assert (await cache.get_many(keys)).keys() == set(keys[:3])
    assert near.entries.keys() == set(keys[:3])
    assert far.reads == 1
    assert (await cache.get_many(keys[:3])).keys() == set(keys[:3])
    assert far.reads == 1


async def test_what_is_stored_goes_to_both() -> None:
    near, far = Tier(), Tier()
    await TieredCache(near, far).put_many(entries("a"))
    assert near.entries.keys() == far.entries.keys() == entries("a").keys()


async def test_a_claim_holds_in_both_or_in_neither() -> None:
    near, far = Tier(), Tier()
    cache = TieredCache(near, far)
    a, b, c, d = keys = list(entries("a", "b", "c", "d"))
    near.taken, far.taken = {a}, {b}
    assert await cache.claim(keys) == [c, d]
    assert near.ours == far.ours == {c, d}
    cache.unclaim([c, d])
    assert near.ours == far.ours == set()


async def test_a_claim_that_is_cancelled_holds_in_neither() -> None:
    class Slow(Tier):
        async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
            await anyio.sleep_forever()
            raise AssertionError

    near = Tier()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(TieredCache(near, Slow()).claim, list(entries("a")))
        await anyio.wait_all_tasks_blocked()
        assert near.ours
        tasks.cancel_scope.cancel()
    assert not near.ours


def in_front_of(cache: Tier, *, seconds: float = 60.0) -> tuple[RecentFirst, RecentVectors]:
    recent = RecentVectors(dimensions=len(vector_of("")), max_bytes=1_000_000, seconds=seconds)
    return RecentFirst(recent, cache), recent


async def test_what_was_found_or_stored_lately_is_not_looked_up_again() -> None:
    cache = Tier()
    await cache.put_many(entries("a"))
    first, recent = in_front_of(cache)
    keys = list(entries("a", "b", "c"))
    assert (await first.get_many(keys)).keys() == {keys[0]}
    await first.put_many(entries("b"))
    assert cache.entries.keys() == set(keys[:2])
    reads = cache.reads
    found = await first.get_many([keys[1], keys[0], keys[1]])
    assert {key: found[key].vector.tolist() for key in found} == {
        key: embedding.vector.tolist() for key, embedding in entries("a", "b").items()
    }
    assert cache.reads == reads
    assert recent.statistics().hits_total == 2
    assert (await first.get_many(keys)).keys() == set(keys[:2])  # what is missing is looked for each time
    assert cache.reads == reads + 1


async def test_what_was_deleted_is_found_until_its_time_is_up() -> None:
    cache = Tier()
    first, recent = in_front_of(cache)
    await first.put_many(entries("a"))
    keys = list(entries("a"))
    cache.entries.clear()
    assert (await first.get_many(keys)).keys() == set(keys)
    assert not recent.find(keys, anyio.current_time() + 60.0)
    assert await first.get_many(keys) == {}


async def test_claims_are_those_of_the_cache_behind() -> None:
    cache = Tier()
    first, _ = in_front_of(cache)
    keys = list(entries("a", "b"))
    cache.taken = {keys[1]}
    assert await first.claim(keys) == keys[:1]
    assert cache.ours == {keys[0]}
    first.unclaim(keys[:1])
    assert cache.ours == set()
