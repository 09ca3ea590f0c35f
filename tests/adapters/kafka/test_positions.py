"""Going back to where the flow is, while partitions are taken up again: each by itself, as in exactly-once mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from aiokafka import TopicPartition
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
