"""What topics have refused is learned: few refusals, and nothing left out that would have been taken."""

from __future__ import annotations

import random

import pytest
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
)

from streamer.adapters.kafka.refusals import InvalidRecordError
from streamer.adapters.kafka.topic_limits import FORGOTTEN_AFTER, TimestampLimits, TopicLimits
from streamer.core.events import Message

HOUR = 3_600_000


@pytest.mark.parametrize(
    "limits", [(HOUR, 10**12), (10 * 60_000, HOUR), (HOUR, 60_000), (10**12, 7 * 24 * HOUR), (0, 0)]
)
@pytest.mark.parametrize("wall", [1_764_000_000.0, 0.0])
def test_few_refusals_find_limits_that_a_topic_keeps(limits: tuple[int, int], wall: float) -> None:
    learned = TimestampLimits(lambda: wall)
    ahead, behind = limits
    start = int(wall * 1000)
    offsets = [0, 30 * 60_000, 2 * HOUR, 10**15, -HOUR // 2, -25 * HOUR, -365 * 24 * HOUR]
    sent = [Message("t", b"k", b"v", (), start + offset) for offset in offsets]
    refusals = 0
    while any(m.timestamp is not None and not -behind <= m.timestamp - start <= ahead for m in map(learned.fit, sent)):
        learned.begin()
        assert learned.learn("t", sent)
        refusals += 1
    assert refusals <= 30
    assert all(m.timestamp is None for m in map(learned.fit, sent)) or learned.fit(sent[0]) is sent[0]
    other = Message("other", b"k", b"v", (), start + 10**15)
    assert learned.fit(other) is other


def test_what_left_together_teaches_once() -> None:
    learned = TimestampLimits(lambda: 1_764_000_000.0)
    late, early = (Message("t", b"k", b"v", (), 1_764_000_000_000 + hours * HOUR) for hours in (-25, 2))
    learned.begin()
    assert learned.learn("t", [late, early])
    assert learned.learn("t", [late])
    assert learned.fit(late) is late, "the one of 2 h ahead explains the refusal"
    assert learned.fit(early).timestamp is None


def test_without_timestamps_there_is_nothing_to_learn() -> None:
    assert not TimestampLimits().learn("t", [Message("t", b"k", b"v", ())])


def message(size: int = 10, key: bytes | None = b"k") -> Message:
    return Message("t", key, b"x" * size, ())


def measure(message: Message) -> int:
    return len(message.value or b"") + 80


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [300, 20_000, 1_000_000])
def test_few_refusals_find_the_size_that_a_topic_takes(limit: int, seed: int) -> None:
    """Thousands of records larger than the topic takes, and batches of all that fit."""
    rng = random.Random(seed)
    limits = TopicLimits()
    refusals = wrongly_left_out = 0
    for _ in range(5000):
        one = message(int(10 ** rng.uniform(1, 6.5)))
        size = measure(one)
        if limits.refuses(one, size + 100, measure):
            wrongly_left_out += size <= limit
        elif size > limit:
            refusals += 1
            assert not limits.learn("t", rng.choice([MessageSizeTooLargeError, RecordListTooLargeError])(), [one], size)
        together = min(limits.batch_bytes("t") or 512_000, 512_000)
        if together > limit:
            refusals += 1
            assert limits.learn("t", MessageSizeTooLargeError(), [one, one], together)
    assert not wrongly_left_out
    assert refusals < 40
    assert (limits.batch_bytes("t") or 512_000) >= min(limit // 2, 512_000), "and batches are not smaller than need be"


def test_what_compresses_well_is_measured() -> None:
    limits = TopicLimits()
    limits.learn("t", MessageSizeTooLargeError(), [message(900)], 1000)
    assert limits.refuses(message(5000), 5200, lambda m: 700) is None
    assert isinstance(limits.refuses(message(5000), 5200, lambda m: 1000), MessageSizeTooLargeError)
    assert limits.refuses(Message("other", b"k", b"x" * 5000, ()), 5200, measure) is None


def test_a_compacted_topic_is_not_offered_records_without_keys_again() -> None:
    limits = TopicLimits()
    assert limits.refuses(message(key=None), 100, measure) is None
    assert limits.learn("t", InvalidRecordError(), [message(), message(key=None)], 200)
    assert isinstance(limits.refuses(message(key=None), 100, measure), InvalidRecordError)
    assert limits.refuses(message(), 100, measure) is None
    assert not limits.learn("t", InvalidRecordError(), [message(), message()], 200), "that was not about keys"
    assert not limits.learn("t", InvalidRecordError(), [message(), message(key=None)], 200), "nor is this"


@pytest.mark.parametrize("error", [CorruptRecordException(), PolicyViolationError(), KafkaError(), None])
def test_other_errors_teach_nothing(error: BaseException | None) -> None:
    limits = TopicLimits()
    assert not limits.learn("t", error, [message(), message(key=None)], 200)
    assert limits.batch_bytes("t") is None
    assert limits.refuses(message(10**6, None), 10**6, measure) is None


def test_it_is_forgotten_after_a_while_for_topics_are_changed() -> None:
    now = 0.0
    limits = TopicLimits(lambda: now)
    limits.learn("t", MessageSizeTooLargeError(), [message(), message()], 1000)
    limits.learn("t", MessageSizeTooLargeError(), [message(900)], 980)
    limits.learn("t", InvalidRecordError(), [message(), message(key=None)], 200)
    assert limits.batch_bytes("t") == 500
    now = FORGOTTEN_AFTER
    assert limits.batch_bytes("t") is None
    assert limits.refuses(message(5000, None), 5100, measure) is None
