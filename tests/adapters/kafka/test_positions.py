"""Where partitions are read on: after the client's errors, while others are taken up, and when the log has moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from streamer.adapters.kafka.positions import Positions

pytestmark = pytest.mark.anyio

FIRST, SECOND = TopicPartition("texts", 0), TopicPartition("texts", 1)


class Consumer:
    """What is asked of a client here. `meanwhile` happens while it waits for its first answer."""

    def __init__(self, committed: dict[TopicPartition, int], meanwhile: Callable[[], object]) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self._committed = committed
        self._meanwhile: list[Callable[[], object]] = [meanwhile]
        self._coordinator = self

    async def fetch_committed_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        answer = {tp: OffsetAndMetadata(self._committed[tp], "") for tp in tps}
        while self._meanwhile:
            self._meanwhile.pop()()
        return answer

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset


async def test_a_change_of_one_partition_leaves_none_of_the_others_where_the_client_was() -> None:
    """What the client had read ahead and nobody was handed would be skipped, and its offset committed."""
    positions = Positions(timeout=5.0)
    consumer = Consumer({FIRST: 100, SECOND: 200}, meanwhile=positions.changed)
    assert await positions.seek_back(consumer, [FIRST, SECOND]) == []
    assert consumer.positions == {FIRST: 100, SECOND: 200}


async def test_what_was_handed_over_meanwhile_is_not_read_twice() -> None:
    positions = Positions(timeout=5.0)

    def taken_up() -> None:
        positions.advance(FIRST, 150)
        positions.changed()

    consumer = Consumer({FIRST: 100}, meanwhile=taken_up)
    assert await positions.seek_back(consumer, [FIRST]) == []
    assert consumer.positions == {FIRST: 150}


class Log:
    """A client that knows where logs begin."""

    def __init__(self, begins: dict[TopicPartition, int] | KafkaError) -> None:
        self._begins = begins

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        if isinstance(self._begins, KafkaError):
            raise self._begins
        return {tp: self._begins[tp] for tp in tps}


async def test_what_retention_deleted_is_counted_and_a_log_that_is_shorter_is_read_anew() -> None:
    positions = Positions(timeout=5.0)
    log = Log({FIRST: 60, SECOND: 5})
    assert await positions.find_the_log(log, {FIRST: 10, SECOND: 5000}) == {SECOND: 5}
    assert (positions.get(FIRST), positions.get(SECOND)) == (60, None)
    assert (positions.deleted_offsets_total, positions.truncations_total) == (50, 1)


async def test_while_nobody_says_where_a_log_begins_nothing_moves() -> None:
    positions = Positions(timeout=5.0)
    positions.advance(FIRST, 10)
    assert await positions.find_the_log(Log(KafkaError()), {FIRST: 10}) == {}
    assert (positions.get(FIRST), positions.deleted_offsets_total, positions.truncations_total) == (10, 0, 0)


async def test_every_change_begins_a_generation_and_reading_on_does_not() -> None:
    positions = Positions(timeout=5.0)
    positions.advance(FIRST, 10)
    assert positions.generation == 0
    consumer = Consumer({FIRST: 100}, meanwhile=lambda: None)
    await positions.restart(consumer, FIRST, 40)
    assert (positions.generation, positions.get(FIRST), consumer.positions[FIRST]) == (1, 40, 40)
    await positions.restart(consumer, FIRST, None)
    assert (positions.generation, positions.get(FIRST), consumer.positions[FIRST]) == (2, None, 100)
    positions.advance(FIRST, 110)
    positions.forget()
    assert (positions.generation, positions.get(FIRST)) == (3, None)
