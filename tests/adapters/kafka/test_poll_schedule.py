"""Which partitions a poll asks for, with failures and a clock of our own: scheduling, without a broker."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CorruptRecordException
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.adapters.kafka.poll_schedule import SECOND_CHANCE, TRIES, PollSchedule
from tests.support.examples import examples

ALL = [ClientPartition("texts", number) for number in range(4)]
BROKEN = ALL[2]
QUARANTINE = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def poll(schedule: PollSchedule, tps: list[ClientPartition], broken: set[ClientPartition]) -> list[ClientPartition]:
    """One poll, as the source makes it: it fails if it asks for a broken one. Returns what it asked for."""
    wanted = schedule.choose(tps)
    if broken.intersection(wanted):
        schedule.failed(wanted, 7, OSError("damaged batch"))
    elif wanted:
        schedule.succeeded(wanted, wanted)
    return wanted


def with_one_in_quarantine(clock: Clock) -> PollSchedule:
    schedule = PollSchedule(QUARANTINE, clock)
    for _ in range(TRIES):  # it was the only one then
        schedule.failed([BROKEN], 7, OSError("damaged batch"))
    return schedule


def told(schedule: PollSchedule) -> tuple[list[str], float | None]:
    return list(schedule.unreadable), schedule.next_try


def test_all_are_read_together_and_each_comes_first_in_its_turn() -> None:
    schedule = PollSchedule(QUARANTINE, Clock())
    polls = [poll(schedule, ALL[n % 4 :] + ALL[: n % 4], set()) for n in range(8)]  # in whatever order they are named
    assert all(sorted(wanted) == ALL for wanted in polls)
    first = [wanted[0] for wanted in polls]
    assert sorted(first[:4]) == ALL
    assert first[4:] == first[:4]


def test_after_a_failure_each_is_read_alone_until_it_is_cleared() -> None:
    schedule = PollSchedule(QUARANTINE, Clock())
    assert schedule.failed(schedule.choose(ALL), 7, OSError()) == ()
    alone = [schedule.choose(ALL) for _ in range(4)]
    assert sorted(tp for wanted in alone for tp in wanted) == ALL
    assert all(len(wanted) == 1 for wanted in alone)
    for wanted in alone:
        schedule.succeeded(wanted, ())  # there was nothing new in it, but it could be read
    assert sorted(schedule.choose(ALL)) == ALL


def test_one_that_fails_alone_again_and_again_is_quarantined_and_the_others_flow() -> None:
    schedule = PollSchedule(QUARANTINE, Clock())
    assert schedule.failed(ALL, 7, OSError()) == ()
    for _ in range(TRIES - 1):
        assert schedule.failed([BROKEN], 7, OSError("damaged batch")) == ()
        assert schedule.unreadable == []
    assert schedule.failed([BROKEN], 7, OSError("damaged batch")) == [BROKEN]
    assert schedule.unreadable == ["texts/2 cannot be read: damaged batch"]
    assert all(BROKEN not in schedule.choose(ALL) for _ in range(20))
    assert schedule.choose([BROKEN]) == []


def test_one_that_was_quarantined_gets_one_more_try_after_its_time() -> None:
    clock = Clock()
    schedule = with_one_in_quarantine(clock)
    clock.now += QUARANTINE - 0.1
    assert BROKEN not in schedule.choose(ALL)
    clock.now += 0.1
    assert schedule.choose(ALL) == [BROKEN], "alone: its failure must not hold up the others"
    assert schedule.failed([BROKEN], 7, OSError()) == [BROKEN]


def test_one_that_is_tried_again_is_unreadable_until_records_come_or_no_error_does() -> None:
    clock = Clock()
    schedule = with_one_in_quarantine(clock)
    said, again_at = list(schedule.unreadable), clock.now + QUARANTINE
    assert schedule.next_try == again_at
    clock.now = again_at
    assert schedule.choose(ALL) == [BROKEN]
    schedule.succeeded([BROKEN], ())  # nothing has been fetched yet
    assert told(schedule) == (said, again_at)
    schedule.failed([BROKEN], 7, OSError("damaged batch"))
    assert told(schedule) == (said, again_at + QUARANTINE)
    clock.now += QUARANTINE
    assert schedule.choose(ALL) == [BROKEN]
    schedule.succeeded([BROKEN], [BROKEN])
    assert told(schedule) == ([], None)
    for _ in range(TRIES):
        schedule.failed([BROKEN], 7, OSError("damaged batch"))
    clock.now += QUARANTINE
    assert schedule.choose(ALL) == [BROKEN]
    clock.now += SECOND_CHANCE  # retention may have removed all of it
    assert told(schedule) == ([], None)


def test_what_was_fetched_of_a_partition_while_it_was_left_alone_is_told_once() -> None:
    clock = Clock()
    schedule = with_one_in_quarantine(clock)
    assert schedule.outdated([BROKEN]) == []
    clock.now += QUARANTINE
    assert schedule.outdated(schedule.choose(ALL)) == [BROKEN]
    assert schedule.outdated([BROKEN]) == []


def test_a_damaged_batch_is_told_with_its_place() -> None:
    schedule = PollSchedule(QUARANTINE, Clock())
    for _ in range(TRIES):
        schedule.failed([BROKEN], 7, CorruptRecordException("Invalid CRC"))
    assert schedule.unreadable == [
        "texts/2 cannot be read: the broker has a damaged batch at or after offset 7 (its checksum is wrong)"
    ]


def test_one_that_is_mended_is_read_with_the_others_and_has_all_its_tries_again() -> None:
    clock = Clock()
    schedule = with_one_in_quarantine(clock)
    clock.now += QUARANTINE
    assert poll(schedule, ALL, set()) == [BROKEN]
    assert sorted(poll(schedule, ALL, set())) == ALL
    for _ in range(TRIES - 1):
        assert schedule.failed([BROKEN], 7, OSError()) == ()


def test_failures_are_forgiven_only_by_records_that_were_handed_over() -> None:
    """An empty answer may come from before the damaged batch was fetched."""
    schedule = PollSchedule(QUARANTINE, Clock())
    for _ in range(TRIES - 1):
        schedule.failed([BROKEN], 7, OSError())
        schedule.succeeded([BROKEN], ())
    assert schedule.failed([BROKEN], 7, OSError()) == [BROKEN]


@given(st.integers(1, 8), st.data())
@settings(max_examples=examples(30))
def test_the_readable_are_read_again_soon_whatever_is_broken_and_the_broken_are_quarantined(
    count: int, data: st.DataObject
) -> None:
    tps = [ClientPartition("texts", number) for number in range(count)]
    broken = data.draw(st.sets(st.sampled_from(tps)))
    clock = Clock()
    schedule = PollSchedule(QUARANTINE, clock)
    last_read = dict.fromkeys(tps, 0)
    for number in range(1, 200):
        clock.now += 1
        wanted = poll(schedule, tps, broken)
        if not broken.intersection(wanted):
            last_read.update(dict.fromkeys(wanted, number))
        assert all(number - last_read[tp] <= (TRIES + 1) * count for tp in set(tps) - broken)
        assert all(any(f"{tp.topic}/{tp.partition} " in why for tp in broken) for why in schedule.unreadable)
    asked = [poll(schedule, tps, broken) for _ in range(int(QUARANTINE))]  # in no time
    assert sum(bool(broken.intersection(wanted)) for wanted in asked) <= (TRIES + 1) * count


@pytest.mark.parametrize("turn", range(5))
def test_only_what_is_asked_for_is_chosen(turn: int) -> None:
    schedule = with_one_in_quarantine(Clock())
    for _ in range(turn):
        schedule.choose(ALL)
    assert schedule.choose([]) == []
    assert schedule.choose(ALL[:1]) == ALL[:1]
