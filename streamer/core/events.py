"""What flows: a record as Kafka hands it over, the event in it, and the outcome that leaves.

`Decoder` turns a Record into an Input; embedding turns Events into outcomes; everything else passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias, overload

from streamer.core.vectors import Vector
from streamer.errors import DeadLetterKind

# What there is of every event is not `frozen`, which would make it three times as slow to create. Nobody changes these
# objects, but for `Message.instead`.

Headers: TypeAlias = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """A partition of a topic; equal to and hashing like the tuple the Kafka client uses."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


@dataclass(slots=True, unsafe_hash=True)
class Record:
    """One Kafka record, undecoded. `timestamp`: milliseconds since the epoch, as Kafka stores it. `unreadable`: why a
    part of it is missing here, None when it is whole."""

    tp: TopicPartition
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = ()
    unreadable: str | None = None


@dataclass(slots=True, unsafe_hash=True)
class Origin:
    """Where an event came from: what gets completed and committed.

    `epoch` numbers the assignment that delivered it, so that work finished after a rebalance is recognised as stale.
    """

    tp: TopicPartition
    offset: int
    epoch: int


@dataclass(slots=True, unsafe_hash=True)
class Event:
    """A text to embed. `id` names it downstream; `metadata` is what else its JSON object held (None for plain text)."""

    origin: Origin
    record: Record
    id: str
    text: str
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A null value: deletes the id downstream."""

    origin: Origin
    record: Record
    id: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An input that will never become a vector, with the reason for the person who reads the dead-letter topic."""

    origin: Origin
    record: Record
    kind: DeadLetterKind
    reason: str
    attempts: int = 0


@dataclass(slots=True, init=False, unsafe_hash=True)
class EmbeddedEvent:
    """An event with its unit vector. `tokens`: what the model saw, 0 when it does not say. `origin` and `record` are
    the event's, as every outcome has them."""

    event: Event
    vector: Vector
    tokens: int
    truncated: bool
    cache_hit: bool
    origin: Origin = field(repr=False, compare=False)
    record: Record = field(repr=False, compare=False)

    # By hand: properties of the event would be called several times for each.
    def __init__(self, event: Event, vector: Vector, tokens: int, truncated: bool, cache_hit: bool) -> None:
        self.event = event
        self.vector = vector
        self.tokens = tokens
        self.truncated = truncated
        self.cache_hit = cache_hit
        self.origin = event.origin
        self.record = event.record


Input: TypeAlias = Event | Tombstone | DeadLetter
Outcome: TypeAlias = EmbeddedEvent | Tombstone | DeadLetter


Instead: TypeAlias = "Callable[[DeadLetterKind, str], Message | None]"


@dataclass(slots=True)
class Message:
    """A record on its way out. `timestamp`: milliseconds since the epoch, None for the time of sending.

    `origin`: the input record that it is the outcome of, for a sink that commits both together. `instead`: called when
    the broker refuses the message for what it is, with the kind of a dead letter and the broker's reason; returns what
    to send in its place, or None when there is nothing less to send and the sink has to wait. Without it the sink
    raises Refused.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int | None = None
    origin: Origin | None = None
    instead: Instead | None = field(default=None, compare=False, repr=False)


HeaderColumn: TypeAlias = tuple[str, bytes | Sequence[bytes]]
# Whatever holds its bytes in one piece. An array does, too, but before Python 3.12 no type says so.
Piece: TypeAlias = bytes | memoryview


@dataclass(slots=True)
class MessageColumns(Sequence[Message]):
    """Messages to one topic that have headers of the same names, a column for each of their parts.

    A column holds a part of every message, in the order of the messages. `values`: pieces that make a message's value
    one behind the other; `value_bytes`: how many bytes these are together. `headers`: names with their columns; bytes
    in place of a column are the same in all messages. `instead`: as `Message.instead`, with the place of the message
    before its arguments.

    It is also the sequence of these messages, each made when it is asked for: who looks into every one of thousands a
    second takes the columns.
    """

    topic: str
    keys: Sequence[bytes]
    values: Sequence[Sequence[Piece]]
    value_bytes: Sequence[int]
    headers: Sequence[HeaderColumn]
    timestamps: Sequence[int]
    origins: Sequence[Origin]
    instead: Callable[[int, DeadLetterKind, str], Message | None] | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        value = b"".join([column[place] for column in self.values])
        headers = tuple([(name, of if isinstance(of, bytes) else of[place]) for name, of in self.headers])
        instead = partial(self.instead, range(len(self))[place]) if self.instead else None
        return Message(
            self.topic, self.keys[place], value, headers, self.timestamps[place], self.origins[place], instead
        )


def message_bytes(message: Message) -> int:
    """An upper bound of a message's uncompressed size on the wire.

    Per the record format (v2): length, attributes, timestamp and offset deltas, then a varint before key, value and
    each header's name and value; 40 bytes and 10 per header bound those.
    """
    headers = message.headers
    size = 40 + len(message.key or b"") + len(message.value or b"") + 10 * len(headers)
    for name, value in headers:
        size += len(value) + (len(name) if name.isascii() else len(name.encode()))
    return size
