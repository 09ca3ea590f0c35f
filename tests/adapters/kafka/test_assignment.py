"""What a member says of its partitions, against a consumer that does what the test wants; no broker."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CorruptRecordException, KafkaConnectionError, KafkaError

from streamer.adapters.kafka.assignment import Assignment
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.diagnosis import ConsumerTimeouts, in_words
from streamer.adapters.kafka.poll_schedule import TRIES
from streamer.adapters.kafka.positions import Positions
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.events import TopicPartition

pytestmark = pytest.mark.anyio

P0, P1 = ClientPartition("texts", 0), ClientPartition("texts", 1)


class Flow:
    def __init__(self) -> None:
        self.owned: set[TopicPartition] = set()

    async def on_assigned(self, tps: Collection[TopicPartition]) -> None:
        self.owned |= set(tps)

    async def on_revoked(self, tps: Collection[TopicPartition]) -> None:
        self.owned -= set(tps)

    async def on_lost(self, tps: Collection[TopicPartition]) -> None:
        self.owned -= set(tps)


class Consumer:
    """Owns both partitions; asked for a committed offset, it answers with 7 or fails."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.sought: list[tuple[ClientPartition, int]] = []
        self._coordinator = self

    def assignment(self) -> set[ClientPartition]:
        return {P0, P1}

    def seek(self, tp: ClientPartition, offset: int) -> None:
        self.sought.append((tp, offset))

    async def fetch_committed_offsets(self, tps: Collection[ClientPartition]) -> dict[ClientPartition, Any]:
        if self.error:
            raise self.error
        return {tp: SimpleNamespace(offset=7) for tp in tps}


async def owning(clock: list[float]) -> tuple[Assignment, Positions, Flow]:
    positions, flow = Positions(5.0), Flow()
    assignment = Assignment(positions, None, ConsumerTimeouts(pause=0.0, quarantine=60.0), lambda: clock[0])
    assignment.rebalance = flow
    await assignment.assigned([P0, P1])
    return assignment, positions, flow


async def test_a_partition_that_is_not_taken_up_yet_is_told_until_it_is() -> None:
    assignment, _, flow = await owning([0.0])
    consumer = Consumer()
    consumer.error = KafkaConnectionError("no coordinator")
    assignment.restart({P0: None})
    await assignment.take_up_again(consumer)
    assert str(assignment.problem).startswith("texts/0 waits to be taken up again: KafkaConnectionError")
    assert (assignment.readable([TopicPartition(*P0)]), flow.owned) == ([], {P1})
    consumer.error = None
    await assignment.take_up_again(consumer)
    assert assignment.problem is None
    assert (consumer.sought, flow.owned, assignment.restarts_total) == ([(P0, 7)], {P0, P1}, 1)


async def test_a_partition_that_fails_by_itself_is_told_and_left_alone_and_the_other_moves_on() -> None:
    clock = [0.0]
    assignment, positions, _ = await owning(clock)
    ours = [TopicPartition(*P0), TopicPartition(*P1)]
    for _ in range(3 * TRIES):
        wanted = assignment.readable(ours)
        if P0 in wanted:
            assignment.failed(wanted, CorruptRecordException("bad checksum"))
        else:
            assignment.handed_over(wanted, dict.fromkeys(wanted, (positions.get(P1) or 0) + 1))
    assert (assignment.readable(ours), assignment.unreadable_partitions) == ([P1], 1)
    assert str(assignment.problem).startswith("texts/0 cannot be read: ")
    assert positions.get(P0) is None
    assert positions.get(P1) is not None
    clock[0] = 61.0
    assert assignment.readable(ours) == [P0]
    assignment.handed_over([P0], {P0: 3})
    assert assignment.problem is None


async def test_a_new_assignment_forgets_the_trouble_of_the_last() -> None:
    assignment, positions, _ = await owning([0.0])
    assignment.report("no broker at 127.0.0.1:1")
    assignment.handed_over([P0], {P0: 3})
    before = positions.generation
    await assignment.assigned([P0])
    assert (assignment.problem, positions.get(P0)) == (None, None)
    assert positions.generation > before


async def test_a_debugger_reads_what_a_source_owns_and_what_ails_it() -> None:
    source = KafkaSource(KafkaConnection(bootstrap_servers="127.0.0.1:1"), ["texts", "more"], "group")
    assert repr(source) == "<KafkaSource of texts, more: no client, generation 0, well>"
    source._membership.consumer = Consumer()
    source._assignment.report("no answer from Kafka")
    assert repr(source) == ("<KafkaSource of texts, more: ['texts/0', 'texts/1'], generation 0, no answer from Kafka>")


def test_an_outage_is_told_in_words() -> None:
    assert in_words(TimeoutError(), 5.0) == "nothing within 5 s"
    assert in_words(KafkaConnectionError("there is no connection"), 5.0) == "there is no connection"
    assert in_words(KafkaError(), 5.0) == "KafkaError"
