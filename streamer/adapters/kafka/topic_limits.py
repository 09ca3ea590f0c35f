"""What topics have refused so far, so that the same is not tried again: each refusal costs a producer, and with
transactions the transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import structlog
from aiokafka.errors import InvalidTimestampError, MessageSizeTooLargeError

from streamer.adapters.kafka.refusals import InvalidRecordError, refusal_of
from streamer.core.events import Message
from streamer.core.vector_events import SOURCE_TIMESTAMP

log = structlog.get_logger(__name__)

_FIRST_LIMIT_MS: Final = 3_600_000  # an hour ahead is what brokers allow by default
_KEYLESS: Final[BaseException] = InvalidRecordError()  # the client is not typed
_TOO_LARGE: Final[BaseException] = MessageSizeTooLargeError()
FORGOTTEN_AFTER: Final = 600.0  # seconds; what a topic takes may be changed while we run


class TopicLimits:
    """What each topic takes. `clock`: seconds that only grow; `wall_clock`: seconds since the epoch."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.timestamps = TimestampLimits(wall_clock)
        self._clock = clock
        self._batch_bytes: dict[str, int] = {}  # of batches with several records
        self._refused_bytes: dict[str, int] = {}  # the smallest batch of one record that was too large
        self._keyless: set[str] = set()  # compacted topics, which take no record without a key
        self._since: dict[str, float] = {}

    @property
    def has_learned(self) -> bool:
        """False while no topic has refused anything but timestamps: then nothing has to be asked of each message."""
        return bool(self._since)

    def learn(self, topic: str, error: BaseException | None, sent: Sequence[Message], size: int) -> bool:
        """A batch of these messages, `size` bytes on the wire, was refused. True when what was learned is enough to
        send the messages otherwise; False when one of them has to give way, or it is not known which."""
        if isinstance(error, InvalidTimestampError):
            return self.timestamps.learn(topic, sent)
        is_single = len(sent) == 1
        if refusal_of(error) == "too_large":
            # The limit is below `size`: half of it still holds every record that the topic takes, or it is alone.
            known, bytes_ = (self._refused_bytes, size) if is_single else (self._batch_bytes, size // 2)
            known[topic] = min(bytes_, known.get(topic, bytes_))
        elif isinstance(error, InvalidRecordError) and topic not in self._keyless and any(m.key is None for m in sent):
            self._keyless.add(topic)
        else:
            return False
        self._since[topic] = self._clock()
        return not is_single

    def batch_bytes(self, topic: str) -> int | None:
        """The most bytes that several records may have together; None while nothing is known."""
        bounds = [known[topic] for known in (self._batch_bytes, self._refused_bytes) if topic in known]
        return min(bounds) if bounds and self._remembers(topic) else None

    def refuses(self, message: Message, bound: int, measure: Callable[[Message], int]) -> BaseException | None:
        """Why there is no use in sending it. `bound`: its size at the most; `measure` finds out what it is on the
        wire, which may be less."""
        topic = message.topic
        if topic not in self._since or not self._remembers(topic):
            return None
        if message.key is None and topic in self._keyless:
            return _KEYLESS
        refused = self._refused_bytes.get(topic)
        if refused is None or bound < refused or measure(message) < refused:
            return None
        return _TOO_LARGE

    def _remembers(self, topic: str) -> bool:
        if self._clock() - self._since[topic] < FORGOTTEN_AFTER:
            return True
        for known in (self._batch_bytes, self._refused_bytes, self._since):
            known.pop(topic, None)
        self._keyless.discard(topic)
        return False


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

    def fit_all(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Each as its topic takes it."""
        return list(map(self.fit, messages)) if self._ahead or self._behind else messages

    def fit(self, message: Message) -> Message:
        """The message as its topic takes it."""
        if not self._ahead and not self._behind:
            return message
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
