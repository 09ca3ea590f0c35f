"""Embedders of several processes around one cache: no text is paid for twice, and nobody waits for ever."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.vectors import Purpose
from streamer.embedding import cached
from streamer.embedding.cached import CachedEmbedder
from streamer.protocols import Embedding, Rejection
from streamer.testing import HashEmbedder, MemoryCache, vector_of
from tests.support.examples import examples

pytestmark = pytest.mark.anyio


class Desk:
    """Where the processes of a test claim their keys."""

    def __init__(self) -> None:
        self.claimed: dict[bytes, Process] = {}


class Process:
    """One of them, as Claims."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        return [key for key in keys if self._desk.claimed.setdefault(key, self) is self]

    def unclaim(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if self._desk.claimed.get(key) is self:
                del self._desk.claimed[key]


@settings(max_examples=examples(30))
@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.sampled_from("abcdefgh"), max_size=12)), max_size=10),
    st.integers(0, 99),
)
def test_three_processes_pay_for_every_text_once(batches: list[tuple[int, list[str]]], seed: int) -> None:
    cache, desk = MemoryCache(), Desk()
    inners = [HashEmbedder(random.Random(seed + number)) for number in range(3)]
    embedders = [CachedEmbedder(inner, cache, Process(desk)) for inner in inners]
    fresh: Counter[str] = Counter()

    async def one(process: int, batch: list[str]) -> None:
        results = await embedders[process].embed(batch, "document")
        for text, result in zip(batch, results, strict=True):
            assert isinstance(result, Embedding)
            np.testing.assert_array_equal(result.vector, vector_of(text))
            fresh[text] += not result.cache_hit

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for process, batch in batches:
                tasks.start_soon(one, process, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cached, "POLL_SECONDS", 0.0)
        anyio.run(main)
    texts = {text for _, batch in batches for text in batch}
    assert sum((Counter(inner.seen) for inner in inners), Counter()) == Counter(texts)
    assert fresh == Counter(texts)
    assert desk.claimed == {}
    misses = sum(embedder.statistics().misses_total for embedder in embedders)
    assert misses == len(texts)


async def test_what_is_stored_between_the_look_and_the_claim_is_not_paid_for() -> None:
    cache, desk = MemoryCache(), Desk()
    other, inner = HashEmbedder(), HashEmbedder()
    rival = CachedEmbedder(other, cache, Process(desk))

    class Late(Process):
        async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
            cache.entries.update(dict(zip(keys, stored, strict=True)))
            return await super().claim(keys)

    stored = [r for r in await rival.embed(["a", "b"], "document") if isinstance(r, Embedding)]
    cache.entries.clear()
    results = await CachedEmbedder(inner, cache, Late(desk)).embed(["a", "b"], "document")
    assert [isinstance(result, Embedding) and result.cache_hit for result in results] == [True, True]
    assert inner.seen == {}


async def test_a_process_that_never_ends_its_claim_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "PATIENCE_SECONDS", 0.1)
    inner, desk = HashEmbedder(), Desk()
    stopped: list[str] = []

    class Stopped(HashEmbedder):
        async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
            stopped.extend(texts)
            await anyio.sleep_forever()
            raise AssertionError

    cache = MemoryCache()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(CachedEmbedder(Stopped(), cache, Process(desk)).embed, ["a"], "document")
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            results = await CachedEmbedder(inner, cache, Process(desk)).embed(["a", "b"], "document")
        tasks.cancel_scope.cancel()
    assert [isinstance(result, Embedding) for result in results] == [True, True]
    assert (stopped, inner.seen) == (["a"], {"a": 1, "b": 1})
    assert desk.claimed == {}


async def test_the_texts_of_a_call_that_failed_are_free_again() -> None:
    class Failing(HashEmbedder):
        async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
            raise OSError("gone")

    cache, desk, inner = MemoryCache(), Desk(), HashEmbedder()
    with pytest.raises(OSError, match="gone"):
        await CachedEmbedder(Failing(), cache, Process(desk)).embed(["a"], "document")
    await CachedEmbedder(inner, cache, Process(desk)).embed(["a"], "document")
    assert inner.seen == {"a": 1}
    assert desk.claimed == {}
