from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.reading import is_blank
from streamer.core.vectors import Purpose
from streamer.embedding.cached import CachedEmbedder, any_blank
from streamer.protocols import Embedding, Rejection
from streamer.testing import HashEmbedder, MemoryCache, vector_of
from tests.support.examples import examples

pytestmark = pytest.mark.anyio


def check(texts: Sequence[str], results: Sequence[Embedding | Rejection]) -> None:
    assert len(results) == len(texts)
    for text, result in zip(texts, results, strict=True):
        if "reject" in text:
            assert isinstance(result, Rejection)
        else:
            assert isinstance(result, Embedding)
            np.testing.assert_array_equal(result.vector, vector_of(text))


@settings(max_examples=examples(50))
@given(st.lists(st.lists(st.sampled_from("abcdefgh") | st.just("reject"), max_size=12), max_size=8), st.integers(0, 99))
def test_every_text_gets_its_own_vector_and_is_paid_for_once(batches: list[list[str]], seed: int) -> None:
    inner, cache = HashEmbedder(random.Random(seed)), MemoryCache()
    embedder = CachedEmbedder(inner, cache)
    fresh = 0

    async def one(batch: list[str]) -> None:
        nonlocal fresh
        results = await embedder.embed(batch, "document")
        check(batch, results)
        fresh += sum(isinstance(r, Embedding) and not r.cache_hit for r in results)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for batch in batches:
                tasks.start_soon(one, batch)

    anyio.run(main)
    valid = {text for batch in batches for text in batch} - {"reject"}
    assert all(inner.seen[text] == 1 for text in valid)
    assert fresh == len(valid), "all occurrences but the paid one are cache hits"
    assert len(cache.entries) == len(valid)
    assert embedder._flights == {}


async def test_one_read_and_one_write_per_batch() -> None:
    cache = MemoryCache()
    embedder = CachedEmbedder(HashEmbedder(), cache)
    await embedder.embed(["a", "b", "a"], "document")
    assert (cache.reads, cache.writes) == (1, 1)
    results = await embedder.embed(["b", "a"], "document")
    assert (cache.reads, cache.writes) == (2, 1)
    assert all(isinstance(r, Embedding) and r.cache_hit for r in results)
    statistics = embedder.statistics()
    assert (statistics.texts_total, statistics.repeats_total, statistics.hits_total, statistics.misses_total) == (
        5,
        1,
        2,
        2,
    )


async def test_who_has_paid_waits_until_it_is_stored_and_who_waits_for_that_need_not() -> None:
    class Slow(MemoryCache):
        def __init__(self) -> None:
            super().__init__()
            self.gate = anyio.Event()

        async def put_many(self, entries: Mapping[bytes, Embedding]) -> None:
            await self.gate.wait()
            await super().put_many(entries)

    cache, done = Slow(), list[str]()
    embedder = CachedEmbedder(HashEmbedder(), cache)

    async def ask(name: str) -> None:
        await embedder.embed(["a"], "document")
        done.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "first")
        tasks.start_soon(ask, "second")
        await anyio.wait_all_tasks_blocked()
        assert done == ["second"]
        cache.gate.set()
    assert done == ["second", "first"]


async def test_a_query_is_not_answered_with_a_document_vector() -> None:
    inner = HashEmbedder()
    embedder = CachedEmbedder(inner, MemoryCache())
    await embedder.embed(["a"], "document")
    await embedder.embed(["a"], "query")
    assert inner.seen["a"] == 2


async def test_those_who_wait_take_over_when_the_first_call_fails() -> None:
    class Failing(HashEmbedder):
        async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
            results = await super().embed(texts, purpose)
            if "a" in texts:
                raise OSError("gone")
            return results

    inner = Failing()
    inner.gate = anyio.Event()
    embedder = CachedEmbedder(inner, None)
    results: list[Embedding | Rejection] = []

    async def first() -> None:
        with pytest.raises(OSError, match="gone"):
            await embedder.embed(["a", "b"], "document")

    async def second() -> None:
        results.extend(await embedder.embed(["b", "c"], "document"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        inner.gate.set()
    check(["b", "c"], results)
    assert inner.seen == {"a": 1, "b": 2, "c": 1}


async def test_a_cancelled_call_leaves_nobody_waiting() -> None:
    inner = HashEmbedder()
    inner.gate = anyio.Event()
    embedder = CachedEmbedder(inner, None)
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(embedder.embed, ["a"], "document")
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(embedder.embed, ["a"], "document")
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        inner.gate.set()
    assert inner.seen["a"] == 2
    assert embedder._flights == {}


async def test_row_27_texts_in_which_nothing_can_be_seen_are_never_paid_for() -> None:
    """Field case 27: for Python and the command line, which do not decode records."""
    inner = HashEmbedder()
    texts = ["late", "\u200b", "\ufeff", "\x00", "", "\u3164", "\ufefflate", "cut \ud83d"]
    results = await CachedEmbedder(inner, None).embed(texts, "document")
    assert [r.kind if isinstance(r, Rejection) else None for r in results] == [None] + ["empty_text"] * 5 + [None, None]
    assert set(inner.seen) == {"late", "cut \ufffd"}


@given(st.lists(st.text() | st.sampled_from(["", " ", "a", "7 x", "\u3164a", "é", "ᅟ"])))
def test_one_blank_text_is_found_among_many(texts: list[str]) -> None:
    assert any_blank(texts) == any(map(is_blank, texts))
