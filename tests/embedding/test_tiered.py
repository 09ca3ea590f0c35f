"""A cache of this machine in front of one that machines share."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from streamer.core.vectors import cache_key
from streamer.embedding.tiered import TieredCache
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
