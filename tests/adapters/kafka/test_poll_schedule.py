"""Which partitions a poll asks for, with failures and a clock of our own: scheduling, without a broker."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition as ClientPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.adapters.kafka.poll_schedule import TRIES, PollSchedule

ALL = [ClientPartition("texts", number) for number in range(4)]
BROKEN = ALL[2]
LEFT_ALONE = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def poll(turns: PollSchedule, tps: list[ClientPartition], broken: set[ClientPartition]) -> list[ClientPartition]:
    """One poll, as the source makes it: it fails if it asks for a broken one. Returns what it asked for."""
    wanted = turns.choose(tps)
    if broken.intersection(wanted):
        turns.failed(wanted, 7, OSError("damaged batch"))
    elif wanted:
        turns.succeeded(wanted, wanted)
    return wanted


def broken_and_left_alone(clock: Clock) -> PollSchedule:
    turns = PollSchedule(LEFT_ALONE, clock)
    for _ in range(TRIES):  # it was the only one then
        turns.failed([BROKEN], 7, OSError("damaged batch"))
    return turns


def test_all_are_read_together_and_each_comes_first_in_its_turn() -> None:
    turns = PollSchedule(LEFT_ALONE, Clock())
    polls = [poll(turns, ALL[n % 4 :] + ALL[: n % 4], set()) for n in range(8)]  # in whatever order they are named
    assert all(sorted(wanted) == ALL for wanted in polls)
    first = [wanted[0] for wanted in polls]
    assert sorted(first[:4]) == ALL
    assert first[4:] == first[:4]


def test_after_a_failure_each_is_read_alone_until_it_is_cleared() -> None:
    turns = PollSchedule(LEFT_ALONE, Clock())
    assert turns.failed(turns.choose(ALL), 7, OSError()) == ()
    alone = [turns.choose(ALL) for _ in range(4)]
    assert sorted(tp for wanted in alone for tp in wanted) == ALL
    assert all(len(wanted) == 1 for wanted in alone)
    for wanted in alone:
        turns.succeeded(wanted, ())  # there was nothing new in it, but it could be read
    assert sorted(turns.choose(ALL)) == ALL


def test_one_that_fails_alone_again_and_again_is_left_alone_and_the_others_flow() -> None:
    turns = PollSchedule(LEFT_ALONE, Clock())
    assert turns.failed(ALL, 7, OSError()) == ()
    for _ in range(TRIES - 1):
        assert turns.failed([BROKEN], 7, OSError("damaged batch")) == ()
        assert turns.unreadable == []
    assert turns.failed([BROKEN], 7, OSError("damaged batch")) == [BROKEN]
    assert turns.unreadable == ["texts/2 cannot be read: damaged batch"]
    assert all(BROKEN not in turns.choose(ALL) for _ in range(20))
    assert turns.choose([BROKEN]) == []


def test_one_that_was_left_alone_gets_one_more_try_after_its_time() -> None:
    clock = Clock()
    turns = broken_and_left_alone(clock)
    clock.now += LEFT_ALONE - 0.1
    assert BROKEN not in turns.choose(ALL)
    clock.now += 0.1
    assert turns.choose(ALL) == [BROKEN], "alone: its failure must not hold up the others"
    assert turns.unreadable == []
    assert turns.failed([BROKEN], 7, OSError()) == [BROKEN]


def test_one_that_is_mended_is_read_with_the_others_and_has_all_its_tries_again() -> None:
    clock = Clock()
    turns = broken_and_left_alone(clock)
    clock.now += LEFT_ALONE
    assert poll(turns, ALL, set()) == [BROKEN]
    assert sorted(poll(turns, ALL, set())) == ALL
    for _ in range(TRIES - 1):
        assert turns.failed([BROKEN], 7, OSError()) == ()


def test_failures_are_forgiven_only_by_records_that_were_handed_over() -> None:
    """An empty answer may come from before the damaged batch was fetched."""
    turns = PollSchedule(LEFT_ALONE, Clock())
    for _ in range(TRIES - 1):
        turns.failed([BROKEN], 7, OSError())
        turns.succeeded([BROKEN], ())
    assert turns.failed([BROKEN], 7, OSError()) == [BROKEN]


@given(st.integers(1, 8), st.data())
@settings(max_examples=30, deadline=None)
def test_the_readable_are_read_again_soon_whatever_is_broken_and_the_broken_are_left_alone(
    count: int, data: st.DataObject
) -> None:
    tps = [ClientPartition("texts", number) for number in range(count)]
    broken = data.draw(st.sets(st.sampled_from(tps)))
    clock = Clock()
    turns = PollSchedule(LEFT_ALONE, clock)
    last_read = dict.fromkeys(tps, 0)
    for number in range(1, 200):
        clock.now += 1
        wanted = poll(turns, tps, broken)
        if not broken.intersection(wanted):
            last_read.update(dict.fromkeys(wanted, number))
        assert all(number - last_read[tp] <= (TRIES + 1) * count for tp in set(tps) - broken)
        assert all(any(f"{tp.topic}/{tp.partition} " in why for tp in broken) for why in turns.unreadable)
    asked = [poll(turns, tps, broken) for _ in range(int(LEFT_ALONE))]  # in no time
    assert sum(bool(broken.intersection(wanted)) for wanted in asked) <= (TRIES + 1) * count


@pytest.mark.parametrize("turn", range(5))
def test_only_what_is_asked_for_is_chosen(turn: int) -> None:
    turns = broken_and_left_alone(Clock())
    for _ in range(turn):
        turns.choose(ALL)
    assert turns.choose([]) == []
    assert turns.choose(ALL[:1]) == ALL[:1]
