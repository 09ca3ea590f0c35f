"""Vector events as strangers write them: whatever is admitted can be judged, published, searched and saved. Numbers are
those of the list of field cases."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import Headers, Record, TopicPartition
from streamer.core.reading import MAX_DEPTH, MAX_ID_BYTES
from streamer.core.vector_events import Deletion, Malformed, VectorEvent, VectorInput, decode_vector_event
from streamer.core.verdicts import Verdict, encode_verdict

JSON_HEADERS = (("content-type", b"application/json"),)
BINARY_HEADERS = (
    ("content-type", b"application/octet-stream"), ("streamer-space", b"s"), ("streamer-dimensions", b"2"),
)  # fmt: skip


def decode(value: bytes | None, *, key: bytes | None = b"k", headers: Headers = JSON_HEADERS) -> VectorInput:
    return decode_vector_event(Record(TopicPartition("vectors", 0), 5, key, value, 1_700_000_000_000, headers))


def document(**changes: Any) -> dict[str, Any]:
    return {"vector": [0.6, 0.8], "space": "s", "dimensions": 2, "model": "m"} | changes


def source(**changes: Any) -> dict[str, Any]:
    return {"source": {"topic": "t", "partition": 0, "offset": 7, "timestamp": 1} | changes}


def write_everything(event: VectorEvent) -> None:
    """As the verdict, the snapshot and the answer to a search do."""
    verdict = Verdict(
        id=event.id,
        verdict="ordinary",
        similarity=None,
        duplicate_of=event.id,
        nearest=[],
        space=event.space,
        source=event.source,
    )
    assert orjson.loads(encode_verdict(verdict, "verdicts").value or b"")["id"] == event.id
    orjson.dumps([[event.id], [event.timestamp], [(None, event.text, event.metadata)]])
    orjson.dumps({"matches": [{"id": event.id, "text": event.text, "metadata": event.metadata}]})


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("levels", [400, 251, 252, MAX_DEPTH + 1, 2000])
def test_row_f2_metadata_deeper_than_the_worker_reads_are_malformed(levels: int) -> None:
    """Field case F2."""
    value = orjson.dumps(document())[:-1] + f', "metadata": {{"m": {nested(levels)}}}}}'.encode()
    assert isinstance(decode(value), Malformed)
    headers = (*BINARY_HEADERS, ("streamer-metadata", f'{{"m": {nested(levels)}}}'.encode()))
    assert isinstance(decode(np.array([0.6, 0.8], "<f4").tobytes(), headers=headers), Malformed)


def test_row_f2_the_deepest_metadata_of_a_worker_are_remembered() -> None:
    value = orjson.dumps(document())[:-1] + f', "metadata": {{"m": {nested(MAX_DEPTH - 1)}}}}}'.encode()
    event = decode(value)
    assert isinstance(event, VectorEvent)
    write_everything(event)


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 1e300},
        {"offset": 10**30},
        {"offset": 2**63},
        {"offset": -5},
        {"partition": 2**31},
        {"timestamp": 1e30},
        {"timestamp": 2**64},
        {"topic": "t" * 250},
        {"topic": 7},
    ],
)
def test_row_f3_numbers_and_names_that_kafka_has_not_are_malformed(changes: Any) -> None:
    """Field case F3."""
    assert isinstance(decode(json.dumps(document(**source(**changes))).encode()), Malformed)


@pytest.mark.parametrize("header", [b"t/0/99999999999999999999999", b"t/99999999999/1", b"t/0/1e3", b"t", b"\xff/0/1"])
def test_row_f3_nor_in_a_header(header: bytes) -> None:
    """Field case F3."""
    headers = (*BINARY_HEADERS, ("streamer-source", header))
    assert isinstance(decode(np.array([0.6, 0.8], "<f4").tobytes(), headers=headers), Malformed)


@pytest.mark.parametrize("key", [b"k" * (MAX_ID_BYTES + 1), b"k" * 300_000, "é".encode() * MAX_ID_BYTES, b"a\x00b"])
@pytest.mark.parametrize("value", [orjson.dumps(document()), None])
def test_row_f4_ids_are_bounded_at_the_door_of_the_index(key: bytes, value: bytes | None) -> None:
    """Field case F4."""
    assert isinstance(decode(value, key=key), Malformed)


def test_row_f4_an_id_in_the_value_is_bounded_as_well() -> None:
    assert isinstance(decode(orjson.dumps(document(id="k" * 5000)), key=None), Malformed)
    assert isinstance(decode(orjson.dumps(document(id="k" * 4000)), key=None), VectorEvent)


def test_row_8_lone_surrogates_and_nan_in_the_metadata_of_a_stranger_are_read() -> None:
    event = decode(rb'{"vector": [0.6, 0.8], "space": "s", "dimensions": 2, "text": "x\ud83d", "metadata": {"a": NaN}}')
    assert isinstance(event, VectorEvent)
    assert (event.text, event.metadata) == ("x\ufffd", {"a": None})
    write_everything(event)


hostile = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from([10**30, 1e300, "k" * 5000, 2**63, -1]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
fields = st.sampled_from(["id", "vector", "space", "dimensions", "source", "text", "metadata", "model"])
sources = st.fixed_dictionaries({"topic": hostile, "partition": hostile, "offset": hostile, "timestamp": hostile})


@given(st.dictionaries(fields, hostile), sources | hostile, st.none() | st.binary(max_size=8))
def test_whatever_is_admitted_can_be_written(changes: dict[str, Any], source: Any, key: bytes | None) -> None:
    event = decode(json.dumps(document(**{"source": source, **changes})).encode(), key=key)
    assert isinstance(event, VectorEvent | Malformed | Deletion)
    if isinstance(event, VectorEvent):
        write_everything(event)
