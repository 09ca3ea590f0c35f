"""What a broker refuses about single records, told apart from what is wrong with the broker or the way to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import structlog
from aiokafka import errors

from streamer.core.events import Message
from streamer.core.vector_events import SOURCE_TIMESTAMP
from streamer.errors import DeadLetterKind

log = structlog.get_logger(__name__)

_FIRST_LIMIT_MS: Final = 3_600_000  # an hour ahead is what brokers allow by default


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]  # the client is not typed
    """The topic does not take this record: it is compacted and the record has no key, or a validator says no."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker does not take this record: its topic is compacted and it has no key, or it is not valid."


# The client does not know this code (as of 0.14) and would call it unknown, like a broker's passing troubles.
errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_OTHERS = (InvalidRecordError, errors.PolicyViolationError, errors.CorruptRecordException)


def refusal_of(error: BaseException | None) -> DeadLetterKind | None:
    """The kind of dead letter for a message that was refused by itself; None for all other errors.

    A CORRUPT_MESSAGE is one only when it comes again: the record may have been damaged on its way.
    """
    if isinstance(error, _TOO_LARGE):
        return "too_large"
    return "unpublishable" if isinstance(error, _OTHERS) else None


def is_doubtful(error: BaseException | None) -> bool:
    """Whether the same message may be taken when it is sent again."""
    return isinstance(error, errors.CorruptRecordException)


def reason_of(error: BaseException | None) -> str:
    """For the person who reads the dead letter."""
    if isinstance(error, _TOO_LARGE):
        return (
            "the broker refuses the message as too large: raise the topic's max.message.bytes, or lower "
            "kafka.max_message_bytes"
        )
    if isinstance(error, errors.BrokerResponseError):
        return f"the broker refuses the message: {error.message} ({error.description})"
    return f"the broker refuses the message: {error!r}"


class TimestampLimits:
    """How far from the time of sending a topic lets the timestamps of its records be, as found out by its refusals.

    A message beyond them leaves with the time of sending, and with its own in the header `streamer-source-timestamp`
    (milliseconds since the epoch). `wall_clock`: seconds since the epoch.
    """

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._ahead: dict[str, float] = {}
        self._behind: dict[str, float] = {}
        self._learned: set[str] = set()

    def begin(self) -> None:
        """Refusals of messages that left at the same time are going to be told: one of them teaches enough."""
        self._learned.clear()

    def fit(self, message: Message) -> Message:
        """The message as its topic takes it."""
        if message.timestamp is None or (message.topic not in self._ahead and message.topic not in self._behind):
            return message
        ahead = message.timestamp - self._wall_clock() * 1000
        no_limit = float("inf")
        if -self._behind.get(message.topic, no_limit) <= ahead <= self._ahead.get(message.topic, no_limit):
            return message
        headers = (*message.headers, (SOURCE_TIMESTAMP, str(message.timestamp).encode()))
        return replace(message, timestamp=None, headers=headers)

    def learn(self, topic: str, messages: Iterable[Message]) -> bool:
        """One of these was refused for its timestamp. False when none of them left with one: there is nothing to leave
        out, so the clocks differ.

        Who was it? Time ahead of the clock is rarer and limited by default, so it is suspected first. The limit is at
        most half of what was refused, so few refusals find it.
        """
        if topic in self._learned:
            return True
        now = self._wall_clock() * 1000
        sent = [fitted.timestamp - now for fitted in map(self.fit, messages) if fitted.timestamp is not None]
        if not sent:
            return False
        self._learned.add(topic)
        ahead, behind = max(sent), -min(sent)
        limits, distance = (self._ahead, ahead) if ahead > 1000 else (self._behind, max(behind, 0.0))
        limits[topic] = min(_FIRST_LIMIT_MS, distance / 2) if distance > 1000 else 0.0
        log.warning(
            "topic refuses timestamps; beyond the limit the time of sending is used",
            topic=topic,
            direction="ahead" if limits is self._ahead else "behind",
            limit_seconds=round(limits[topic] / 1000),
        )
        return True
