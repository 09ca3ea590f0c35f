"""What was used last is found in memory: for so long, in so many bytes, and never anything else than was added."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.embedding.recent_vectors import RecentVectors
from streamer.protocols import Embedding
from tests.support.examples import examples

SECONDS = 60.0
LARGE = 10_000_000


def entry(number: int) -> tuple[bytes, Embedding]:
    return b"%d" % number, Embedding(np.full(4, number, np.float32), number, number % 2 == 1)


def recent(max_bytes: int = LARGE) -> RecentVectors:
    return RecentVectors(dimensions=4, max_bytes=max_bytes, seconds=SECONDS)


@given(st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.lists(st.integers(0, 9), max_size=4)), max_size=40))
@settings(max_examples=examples(200))
def test_finds_what_was_added_within_its_time_and_nothing_older(steps: list[tuple[float, bool, list[int]]]) -> None:
    memory, now, added = recent(), 1000.0, dict[bytes, float]()
    for passed, adds, numbers in steps:
        now += passed
        if adds:
            memory.add(dict(map(entry, numbers)), now)
            added |= {b"%d" % number: now for number in numbers}
        found = memory.find([b"%d" % number for number in range(10)], now)
        young = {key for key, at in added.items() if now - at < SECONDS / 3}
        old = {key for key, at in added.items() if now - at >= SECONDS}
        assert young <= found.keys() <= added.keys() - old
        for key, embedding in found.items():
            assert embedding.vector.tolist() == [int(key)] * 4
            assert (embedding.tokens, embedding.truncated, embedding.cache_hit) == (int(key), int(key) % 2 == 1, True)


def test_it_holds_what_it_has_room_for_the_latest_first() -> None:
    memory = recent(max_bytes=100 * (16 + 400))
    for number in range(0, 1000, 10):
        memory.add(dict(map(entry, range(number, number + 10))), 0.0)
        assert memory.statistics().entries <= 100
    assert len(memory.find([b"%d" % number for number in range(950, 1000)], 0.0)) == 50
    memory.add(dict(map(entry, range(2000, 3000))), 0.0)  # more than there is room for
    assert memory.statistics().entries <= 100
    assert list(memory.find([b"2999", b"2000"], 0.0)) == [b"2999"]


def test_it_keeps_a_copy_that_nobody_changes() -> None:
    memory, (key, given) = recent(), entry(3)
    memory.add({key: given}, 0.0)
    given.vector[:] = 0
    found = memory.find([key], 0.0)[key].vector
    assert found.tolist() == [3] * 4
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_hits_are_counted() -> None:
    memory = recent()
    memory.add(dict(map(entry, range(3))), 0.0)
    memory.find([b"0", b"1", b"7"], 1.0)
    assert memory.statistics().hits_total == 2
