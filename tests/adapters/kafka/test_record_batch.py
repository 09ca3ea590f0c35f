"""Our record batches are those of the client, to the byte."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import decode_varint
from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.kafka.record_batch import BATCH_BYTES, Records, varint
from streamer.core.events import Message, MessageColumns, Origin, TopicPartition

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
NAMES = st.sampled_from(["a", "streamer-source", "ü"])
HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=80)), max_size=3).map(tuple)
SAME = st.tuples(st.just(("a", b"1")), st.tuples(st.just("b"), st.binary(max_size=80)), st.just(("c", b"3")))
MESSAGES = st.lists(
    st.builds(
        Message,
        topic=st.just("t"),
        key=st.none() | st.binary(max_size=80),
        value=st.none() | st.binary(max_size=400),
        headers=HEADERS | SAME,
        timestamp=st.integers(0, 2**42),
    ),
    min_size=1,
    max_size=80,
)


def ours(messages: list[Message], codec: str = "none", *, is_transactional: bool = False) -> Any:
    return Records.of(messages).batch(0, len(messages), codec, is_transactional=is_transactional)


@given(MESSAGES, st.sampled_from(sorted(CODECS)), st.booleans(), st.integers(-1, 2**31 - 1))
def test_a_batch_is_what_the_client_makes(
    messages: list[Message], codec: str, is_transactional: bool, sequence: int
) -> None:
    made = ours(messages, codec, is_transactional=is_transactional)
    theirs = BatchBuilder(2**30, CODECS[codec], is_transactional=is_transactional)
    for message in messages:
        theirs.append(timestamp=message.timestamp, key=message.key, value=message.value, headers=list(message.headers))
    assert made.size() == theirs.size()
    for builder in (made, theirs):
        builder._set_producer_state(77, 3, sequence)
    assert b"x" + made._build() == b"x" + bytes(made._build())
    if codec == "none":  # the client compresses what grows by that, too
        assert bytes(made._build()) == bytes(theirs._build())
    assert made.size() == len(made._build()) == len(bytes(made._build()))
    read = DefaultRecordBatch(bytes(made._build()))
    assert read.validate_crc()
    assert [(it.key, it.value, tuple(it.headers), it.timestamp) for it in read] == [
        (it.key, it.value, it.headers, it.timestamp) for it in messages
    ]
    assert (made.record_count(), made.closed(), made.append()) == (len(messages), True, None)


@given(
    st.lists(st.tuples(*[st.binary(max_size=90)] * 5), min_size=1, max_size=60),
    st.lists(st.sampled_from([("a", 0), ("ü", 1), ("a", b""), ("c", b"3")]), max_size=4),
    st.data(),
)
def test_columns_are_encoded_as_their_messages_are(
    rows: list[tuple[bytes, ...]], headers: list[tuple[str, int | bytes]], data: st.DataObject
) -> None:
    keys, *values = ([row[n] for row in rows] for n in range(3))
    messages = MessageColumns(
        topic="t",
        keys=keys,
        values=values,
        value_bytes=[len(row[1]) + len(row[2]) for row in rows],
        headers=[(name, of if isinstance(of, bytes) else [row[3 + of] for row in rows]) for name, of in headers],
        timestamps=range(100, 100 + len(rows)),
        origins=[Origin(TopicPartition("in", 0), n, 1) for n in range(len(rows))],
    )
    positions = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    made = Records.of(messages).chosen(positions).batch(0, len(positions), "none", is_transactional=False)
    assert bytes(made._build()) == bytes(ours([messages[n] for n in positions])._build())


def test_without_a_timestamp_it_is_the_time_of_sending() -> None:
    (read,) = DefaultRecordBatch(bytes(ours([Message("t", b"k", b"v", ())])._build()))
    assert read.timestamp > 1_700_000_000_000


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60), st.integers(0, 8_000))
def test_batches_keep_to_a_size_and_to_the_order(sizes: list[int], max_bytes: int) -> None:
    messages = [Message("t", b"k", bytes(size), (), 0) for size in sizes]
    records = Records.of(messages)
    runs = list(records.runs(max_bytes))
    assert [place for start, end in runs for place in range(start, end)] == list(range(len(sizes)))
    for start, end in runs:
        made = records.batch(start, end, "none", is_transactional=False)
        assert end - start == 1 or len(made._build()) <= max_bytes
    for (start, end), (_, following) in pairwise(runs):  # and no batch is needlessly small
        assert records.batch(start, end + 1, "none", is_transactional=False).size() + 20 * 60 > max_bytes
        assert following > end > start


@pytest.mark.parametrize("number", [0, -1, 63, 64, -65, 8191, 8192, 2**31, -(2**31), 2**62, -(2**63), 2**63 - 1])
def test_numbers_of_records(number: int) -> None:
    encoded = varint(number)
    assert decode_varint(bytearray(encoded), 0) == (number, len(encoded))


def test_an_empty_batch_has_the_size_of_its_header() -> None:
    assert ours([Message("t", None, None, (), 0)]).size() == BATCH_BYTES + 7
