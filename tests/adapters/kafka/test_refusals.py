"""What real Kafka refuses about single records, in both delivery modes; numbers are those of the field cases."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    PolicyViolationError,
    RecordListTooLargeError,
    UnknownError,
    for_code,
)

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.refusals import InvalidRecordError, refusal_of
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.core.events import Message, MessageColumns, Origin, TopicPartition
from streamer.errors import DeadLetterKind, PartitionLost, Refused
from tests.faults.scene import read_everything
from tests.support.brokers import NewTopicName
from tests.support.topics import read_all

pytestmark = pytest.mark.anyio

HOUR = 3_600_000
TP = TopicPartition("texts", 0)


def now() -> int:
    return int(time.time() * 1000)


class Batch:
    """Messages that give way to `dead` when they are refused."""

    def __init__(self, topic: str, dead: str) -> None:
        self.topic, self.dead = topic, dead
        self.kinds: dict[int, DeadLetterKind] = {}

    def message(self, n: int, timestamp: int | None = None, size: int = 10, key: bytes | None = b"k") -> Message:
        def instead(kind: DeadLetterKind, reason: str) -> Message:
            assert "broker refuses" in reason
            self.kinds[n] = kind
            return Message(self.dead, b"k", b"%d dead" % n, (), None, Origin(TP, n, 1))

        value = b"%d " % n + b"x" * size
        if n in self.kinds:
            return Message(self.dead, b"k", b"%d dead" % n, (), None, Origin(TP, n, 1))
        return Message(self.topic, key, value, (), timestamp, Origin(TP, n, 1), instead)


def in_columns(messages: Sequence[Message]) -> MessageColumns:
    """The same messages as a worker hands them over."""

    def instead(place: int, kind: DeadLetterKind, reason: str) -> Message | None:
        refused = messages[place].instead
        return refused(kind, reason) if refused else None

    return MessageColumns(
        topic=messages[0].topic,
        keys=[message.key or b"" for message in messages],
        values=[[message.value or b"" for message in messages]],
        value_bytes=[len(message.value or b"") for message in messages],
        headers=[],
        timestamps=[message.timestamp or now() for message in messages],
        origins=[message.origin or Origin(TP, 0, 1) for message in messages],
        instead=instead,
    )


def numbers(records: Sequence[Any]) -> list[int]:
    return [int(record.value.split()[0]) for record in records]


def hostile(batch: Batch, kind: str) -> list[Message]:
    """Forty messages of which some are refused by the topics of `topic_for`."""
    match kind:
        case "ahead":
            odd = {3: now() + 2 * HOUR, 4: now() * 1000, 20: 4102444800000, 21: 2**63 - 1}
            return [batch.message(n, odd.get(n, now())) for n in range(40)]
        case "behind":
            return [batch.message(n, now() - 24 * HOUR + n * HOUR // 2) for n in range(40)]
        case "large":
            return [batch.message(n, size=30_000 if n in (0, 7, 8, 39) else 100) for n in range(40)]
        case _:
            return [batch.message(n, key=None if n in (0, 7, 8, 39) else b"k") for n in range(40)]


CONFIGS = {
    "ahead": {"message.timestamp.after.max.ms": str(HOUR)},
    "behind": {"message.timestamp.before.max.ms": str(HOUR)},
    "large": {"max.message.bytes": "20000"},
    "keyless": {"cleanup.policy": "compact"},
}


@pytest.mark.real_kafka("refusals of single records")
@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("kind", list(CONFIGS))
async def test_rows_2_and_f6_what_is_refused_leaves_otherwise_and_the_rest_once_and_in_order(
    bootstrap_servers: str, new_topic: NewTopicName, kind: str, idempotent: bool
) -> None:
    """Field cases 2, F6, 12: at least once."""
    batch = Batch(await new_topic(kind, configs=CONFIGS[kind]), await new_topic("dead"))
    sink = KafkaSink(KafkaConnection(bootstrap_servers=bootstrap_servers), idempotent=idempotent)
    await sink.start()
    try:
        with anyio.fail_after(60):
            # Columns have to be taken apart in the end, for what they hold or for what came before them.
            first = await sink.send(hostile(batch, kind) if kind == "keyless" else in_columns(hostile(batch, kind)))
            second = await sink.send(in_columns([batch.message(n) for n in range(40, 60)]))
            await first()
            await second()
        assert sink.state() is None
    finally:
        await sink.aclose()
    records, dead = await read_all(bootstrap_servers, batch.topic), await read_all(bootstrap_servers, batch.dead)
    gone = {0, 7, 8, 39} if kind in ("large", "keyless") else set()
    assert sorted(numbers(dead)) == sorted(gone)
    assert set(batch.kinds.values()) == ({"too_large" if kind == "large" else "unpublishable"} if gone else set())
    expected = [n for n in range(60) if n not in gone]
    if idempotent:
        assert numbers(records) == expected
    else:
        assert list(dict.fromkeys(reversed(numbers(records)))) == expected[::-1], "the last of each is in order"
        assert len(records) <= 3 * 60, "what is sent again was in flight"
    if kind in ("ahead", "behind"):
        originals = {r.value: dict(r.headers).get("streamer-source-timestamp") for r in records}
        for message in hostile(batch, kind)[:5]:
            timestamp = message.timestamp
            if timestamp is not None and abs(timestamp - now()) > 1.5 * HOUR:
                told = originals[message.value]
                assert told is not None
                assert abs(int(told) - timestamp) < HOUR or timestamp > 10 * now()


@pytest.mark.real_kafka("transactions")
@pytest.mark.parametrize("kind", list(CONFIGS))
async def test_rows_2_and_f6_a_transaction_is_made_again_without_what_was_refused(
    bootstrap_servers: str, new_topic: NewTopicName, kind: str
) -> None:
    """Field cases 2, F6, 12: exactly once."""
    texts = await new_topic("texts")
    tp = TopicPartition(texts, 0)
    batch = Batch(await new_topic(kind, configs=CONFIGS[kind]), await new_topic("dead"))
    publishing = KafkaTransactions(KafkaConnection(bootstrap_servers=bootstrap_servers), f"group-{texts}")
    rounds = 0
    with anyio.fail_after(120):
        while True:
            rounds += 1
            assert rounds < 8
            await publishing.begin(tp)
            messages = [*hostile(batch, kind), *(batch.message(n) for n in range(40, 60))]
            ours = [
                Message(m.topic, m.key, m.value, m.headers, m.timestamp, Origin(tp, n, 1), m.instead)
                for n, m in enumerate(messages)
            ]
            try:
                await (await publishing.send(ours))()
                await publishing.commit([tp])
                break
            except PartitionLost:
                continue
    await publishing.end([tp])
    records = await read_everything(bootstrap_servers, batch.topic, "read_committed")
    dead = await read_everything(bootstrap_servers, batch.dead, "read_committed")
    gone = {0, 7, 8, 39} if kind in ("large", "keyless") else set()
    assert numbers(dead) == sorted(gone)
    assert numbers(records) == [n for n in range(60) if n not in gone]


@pytest.mark.real_kafka("refusals of single records")
@pytest.mark.parametrize("kind", ["large", "keyless"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_what_a_topic_has_refused_is_not_tried_again(
    bootstrap_servers: str, new_topic: NewTopicName, kind: str, compression: str
) -> None:
    """Forty of four hundred are refused; few producers find out what, and no more are needed. With transactions each
    would cost the transaction."""
    batch = Batch(await new_topic(kind, configs=CONFIGS[kind]), await new_topic("dead"))
    rng = random.Random(1)
    rounds = [[replace(message, value=message.value and message.value[:9] + rng.randbytes(len(message.value) - 9))
               for message in hostile(batch, kind)] for _ in range(10)]  # fmt: skip
    sink = KafkaSink(KafkaConnection(bootstrap_servers=bootstrap_servers), compression=compression)
    await sink.start()
    try:
        with anyio.fail_after(60):
            for messages in rounds:
                await (await sink.send(messages))()
        assert sink.statistics().producers_replaced_total <= (8 if kind == "large" else 3)
    finally:
        await sink.aclose()
    records, dead = await read_all(bootstrap_servers, batch.topic), await read_all(bootstrap_servers, batch.dead)
    assert Counter(numbers(dead)) == Counter([0, 7, 8, 39] * 10)
    assert numbers(records) == [n for n in range(40) if n not in (0, 7, 8, 39)] * 10


@pytest.mark.real_kafka("limits on the size of a message")
async def test_records_that_fit_one_by_one_go_in_smaller_batches(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    """Not in batches of one, which took minutes where the topic of dead letters allows small batches only."""
    topic = await new_topic("small", configs=CONFIGS["large"])
    sink = KafkaSink(KafkaConnection(bootstrap_servers=bootstrap_servers))
    await sink.start()
    try:
        with anyio.fail_after(60):
            for _ in range(5):
                await (await sink.send([Message(topic, b"k", b"%d " % n + b"x" * 500, ()) for n in range(1000)]))()
        assert sink.statistics().producers_replaced_total <= 5
    finally:
        await sink.aclose()
    assert numbers(await read_all(bootstrap_servers, topic)) == list(range(1000)) * 5


@pytest.mark.real_kafka("refusals of single records")
async def test_without_anything_to_send_instead_the_refused_are_named(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    topic = await new_topic("compacted", configs=CONFIGS["keyless"])
    sink = KafkaSink(KafkaConnection(bootstrap_servers=bootstrap_servers))
    await sink.start()
    try:
        with anyio.fail_after(60), pytest.raises(Refused, match="INVALID_RECORD") as raised:
            await (await sink.send([Message(topic, key, b"1 x", ()) for key in (b"a", None, b"b")]))()
        assert raised.value.positions == {1}
    finally:
        await sink.aclose()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MessageSizeTooLargeError(), "too_large"),
        (RecordListTooLargeError(), "too_large"),
        (PolicyViolationError(), "unpublishable"),
        (InvalidRecordError(), "unpublishable"),
        (CorruptRecordException(), "unpublishable"),
        (UnknownError(), None),
        (NotLeaderForPartitionError(), None),
        (InvalidTimestampError(), None),
        (None, None),
    ],
)
def test_what_is_about_a_record_and_what_is_not(error: BaseException | None, kind: str | None) -> None:
    assert refusal_of(error) == kind


def test_the_client_knows_the_code_of_an_invalid_record() -> None:
    assert for_code(87) is InvalidRecordError
