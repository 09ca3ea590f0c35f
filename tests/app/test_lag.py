"""The lag of a group, from what the role knows and what brokers answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from streamer.app.lag import ConsumerLag
from streamer.core.events import TopicPartition
from streamer.errors import Unreachable

pytestmark = pytest.mark.anyio
A, B, C = (TopicPartition("texts", n) for n in range(3))


class Brokers:
    def __init__(self) -> None:
        self.logs = {A: 100, B: 50, C: 10}
        self.group = {A: 0, B: 40, C: 10}
        self.asked: list[TopicPartition] = []
        self.are_there = True

    async def ends(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        if not self.are_there:
            raise Unreachable("no answer")
        return {tp: self.logs[tp] for tp in tps}

    async def committed(self, tps: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.asked += tps
        return {tp: self.group[tp] for tp in tps}


async def test_lag_is_the_end_less_what_is_committed() -> None:
    brokers, committed, mine = Brokers(), {A: 30}, {A, B}
    lag = ConsumerLag(lambda: committed, lambda: mine, brokers.ends, brokers.committed)
    assert lag.records() == {}, "nothing is known before brokers were asked"
    await lag.look()
    assert lag.records() == {A: 70, B: 10}
    assert brokers.asked == [B], "of what the role has not committed itself"
    committed.update({A: 100, B: 50})
    assert lag.records() == {A: 0, B: 0}


async def test_another_assignment_is_asked_for_anew() -> None:
    brokers, mine = Brokers(), {A, B}
    lag = ConsumerLag(dict, lambda: mine, brokers.ends, brokers.committed)
    await lag.look()
    mine -= {A, B}
    mine.add(C)
    await lag.look()
    assert lag.records() == {C: 0}
    mine.add(B)
    brokers.group[B] = 45
    await lag.look()
    assert lag.records() == {B: 5, C: 0}


async def test_what_was_committed_before_a_rebalance_counts_where_the_role_does_not_know_of_it_any_more() -> None:
    brokers, committed = Brokers(), {B: 40}
    lag = ConsumerLag(lambda: committed, lambda: {A, B}, brokers.ends, brokers.committed)
    await lag.look()
    assert lag.records() == {A: 100, B: 10}
    committed |= {A: 100, B: 50}
    committed.clear()  # the group was assigned anew, and nothing has come since
    brokers.group = {A: 100, B: 50}
    await lag.look()
    assert lag.records() == {A: 0, B: 0}


async def test_what_was_known_last_stays_while_no_broker_answers() -> None:
    brokers = Brokers()
    lag = ConsumerLag(dict, lambda: {A}, brokers.ends, brokers.committed)
    await lag.look()
    brokers.are_there = False
    with pytest.raises(Unreachable):
        await lag.look()
    assert lag.records() == {A: 100}
