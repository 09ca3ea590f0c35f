"""Keys go where Kafka's own clients send them, however many at once."""

from __future__ import annotations

import numpy as np
from aiokafka.partitioner import DefaultPartitioner, murmur2
from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.kafka.partitioning import murmur2_of_all, partition_indices, places_by_index

KEYS = st.one_of(
    st.binary(max_size=20), st.binary(min_size=250, max_size=300), st.uuids().map(lambda u: str(u).encode())
)


@given(st.lists(KEYS, min_size=1, max_size=40))
def test_hashes_are_those_of_the_client(keys: list[bytes]) -> None:
    assert murmur2_of_all(keys).tolist() == [murmur2(key) & 0xFFFFFFFF for key in keys]


@given(st.lists(KEYS, max_size=40), st.integers(1, 1000))
def test_partitions_are_those_of_the_client_for_few_and_for_many(keys: list[bytes], count: int) -> None:
    choices = list(range(count))
    client = DefaultPartitioner()
    assert partition_indices(keys, count).tolist() == [client(key, choices, choices) for key in keys]


@given(st.lists(st.integers(0, 12), max_size=60))
def test_messages_of_a_partition_keep_their_order(indices: list[int]) -> None:
    found = places_by_index(np.array(indices, np.intp))
    assert found == {index: [n for n, it in enumerate(indices) if it == index] for index in sorted(set(indices))}


def test_javas_own_examples() -> None:
    """Of UtilsTest.testMurmur2 in Apache Kafka; Java's numbers have a sign."""
    examples = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    examples |= {b"a-little-bit-longer-string": -1486304829, b"abc": 479470107}
    assert murmur2_of_all(list(examples)).tolist() == [hash & 0xFFFFFFFF for hash in examples.values()]


def test_records_without_a_key_are_spread_and_do_not_move_the_others() -> None:
    keys = [None if n % 3 == 0 else str(n).encode() for n in range(300)]
    found = partition_indices(keys, 7).tolist()
    assert set(found[::3]) == set(range(7))
    assert [index for index, key in zip(found, keys, strict=True) if key] == partition_indices(
        [key for key in keys if key], 7
    ).tolist()
