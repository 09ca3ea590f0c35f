"""Vector events read in columns: an index remembers of them what it would if each were read by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.core.events import EmbeddedEvent, Event, Headers, Origin, Record, TopicPartition
from streamer.core.sketch import FORM_HEADER, SKETCH_HEADER
from streamer.core.vector_events import SOURCE_TIMESTAMP
from streamer.core.vectors import Space
from streamer.indexer import apply
from streamer.indexer.apply import AppliedRecords, apply_records
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.vector_columns import read_columns
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from streamer.worker.encoding import Encoder
from tests.support.examples import examples

Change: TypeAlias = dict[str, Any]  # of a record's fields; "headers": values by name, None to leave one out
Arrival: TypeAlias = tuple[str, int, int, int, Change, Headers]

SPACE = Space(provider="p", model="m", dimensions=2)
ENCODER = Encoder(space=SPACE, vectors_topic="vectors", dead_letters_topic="", format="binary")
TEXTS = ["", "one report", "another report of 3 pages", "one report in 3 parts", "word " * 400]
METADATA: list[dict[str, Any] | None] = [
    None,
    {"lang": "en"},
    {"pages": [1, 2], "by": {"name": "x"}},
    {"x": "y" * 3000},
]

PLAIN: list[Change] = [
    {},
    {"key": b""},
    {"key": "é".encode()},
    {"headers": {"streamer-model": None}},
    {"headers": {"streamer-source": None}},
    {"headers": {FORM_HEADER: None}},
    {"headers": {FORM_HEADER: b"short"}},
    {"headers": {"streamer-text": None}},
    {"headers": {"streamer-metadata": b"[]"}},
    {"headers": {"streamer-metadata": b"{}"}},
    {"headers": {"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
]
HEADERS: dict[str, list[bytes | None]] = {
    "content-type": [None, b"", b"Application/Octet-Stream; v=1", b"application/json", b"\xff"],
    "streamer-space": [None, b"0123456789ab", b"\xff", b"s" * 501],
    "streamer-dimensions": [None, b" 2", b"3", b"two"],
    "streamer-model": [b"\xff", b"m" * 501],
    "streamer-source": [
        b"", b"nonsense", b"t/0/", b"t/0/x", b"t/x/1", b"t/-1/1", b"t/-2/1", b"/0/1", b"\xff/0/1", b"t/0/-1",
        "t/0/٣".encode(), b"t/0/9223372036854775807", b"t/0/9223372036854775808", b"t" * 250 + b"/0/1",
    ],
    SOURCE_TIMESTAMP: [b"5", b"-1", b"-2", b"x", b"99999999999999999999"],
    SKETCH_HEADER: [None, b"", b"\x01", b"\x02\x01\x00", b"\x00" + bytes(24), b"\x00" + bytes(26), b"\x31"],
    "streamer-text": [b"\xff"],
    "streamer-metadata": [
        b"", b"{", b"1", b'{"a":NaN}', b'\xef\xbb\xbf{"a":1}', b'{"a":"\\ud800"}', b"\xff",
        b'{"a":' * 200 + b"1" + b"}" * 200, b"[" * 200, b'{"a":' * 120 + b"1" + b"}" * 120,
    ],
}  # fmt: skip
HOSTILE: list[Change] = [
    {"value": None},
    {"value": None, "key": None},
    {"key": None},
    {"key": b"\xff"},
    {"key": b"a\x01b"},
    {"key": b"a\nb"},
    {"key": b"x" * 1025},
    {"key": b"x" * 5000},
    {"timestamp": -1},
    {"timestamp": -2},
    {"unreadable": "the name of a header is not UTF-8"},
    {"value": b""},
    {"value": b"1234567"},
    {"value": np.array([1, 0, 0], "<f4").tobytes()},
    {"value": np.array([1], "<f4").tobytes()},
    {"value": np.array([0.5, 0.5], "<f4").tobytes()},
    {"value": np.array([np.nan, 1], "<f4").tobytes()},
    {"value": np.array([3e38, 3e38], "<f4").tobytes()},
    {"value": np.array([0.6, 0.8], ">f4").tobytes()},
    {
        "value": orjson.dumps({"vector": [0.6, 0.8], "space": SPACE.id, "dimensions": 2}),
        "headers": {"content-type": b"application/json"},
    },
    *({"headers": {name: value}} for name, values in HEADERS.items() for value in values),
]


# Id, direction in degrees, which text and metadata, timestamp, how it is changed, headers that come twice.
ARRIVALS: st.SearchStrategy[list[Arrival]] = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),
        st.integers(0, 90).map(lambda n: n * 4),
        st.integers(0, len(TEXTS) * len(METADATA) - 1),
        st.integers(0, 100),
        st.just({}) | st.sampled_from(PLAIN) | st.sampled_from(PLAIN) | st.sampled_from(HOSTILE),
        st.sampled_from([(), (), (("streamer-space", b"0123456789ab"),), (("content-type", b"text/plain"),)]),
    ),
    max_size=30,
)


def record_of(offset: int, arrival: Arrival) -> Record:
    """What a worker writes, and what may be found in its place."""
    id, degrees, about, timestamp, change, twice = arrival
    text, metadata = TEXTS[about % len(TEXTS)], METADATA[about // len(TEXTS)]
    tp = TopicPartition("texts", offset % 2)
    event = Event(Origin(tp, offset, 0), Record(tp, offset, None, b"", timestamp), id, text, metadata)
    vector = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)
    _, message = ENCODER.encode(EmbeddedEvent(event, vector, 1, truncated=False, cache_hit=False), 0)
    record = Record(TopicPartition("vectors", 0), offset, message.key, message.value, timestamp, message.headers)
    headers = dict(record.headers) | change.get("headers", {})
    kept = tuple((name, value) for name, value in headers.items() if value is not None)
    return replace(record, **(change | {"headers": (*kept, *twice)}))


def remembered(judge: Judge) -> tuple[Any, ...]:
    """All that a judge knows, to the last bit."""
    state, recent = judge.state()
    state["unjudged"] = sorted(state["unjudged"])
    view = judge.index.read_view()
    payloads = [view.payloads[place] for place in range(len(view.ids))]
    notes = view.payloads.notes.tobytes()
    vectors = view.next_vectors(len(view.ids)).tobytes()
    return state, recent.tobytes(), view.ids, payloads, notes, view.times.tolist(), vectors


def foreign(applied: AppliedRecords) -> list[tuple[str, str, bytes]]:
    return [(event.id, event.space, event.vector.tobytes()) for event in applied.foreign]


@pytest.fixture
def always_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few records there are."""
    monkeypatch.setattr(apply, "_FEWEST_IN_COLUMNS", 1)


def assert_no_difference(arrivals: Sequence[Arrival], edges: Sequence[int], capacity: int, window: int | None) -> None:
    """Between what is remembered in columns and one by one, batch by batch, nor between verdicts given afterwards."""
    records = [record_of(offset, arrival) for offset, arrival in enumerate(arrivals)]
    policy = VerdictPolicy(window=window)
    one_by_one, in_columns = (Judge(VectorIndex(2, capacity), policy) for _ in range(2))
    one_by_one.takes_columns = False
    for start, stop in pairwise(edges):
        expected, found = (
            apply_records(judge, SPACE, records[start:stop], lambda _: False) for judge in (one_by_one, in_columns)
        )
        assert (found.deletions, found.malformed) == (expected.deletions, expected.malformed)
        assert foreign(found) == foreign(expected)
        assert remembered(in_columns) == remembered(one_by_one)
    new = [record_of(len(records) + n, (id, 40 * n, n, 100, {}, ())) for n, id in enumerate("abxyz")]
    said = [apply_records(judge, SPACE, new, lambda _: True).verdicts for judge in (in_columns, one_by_one)]
    assert said[0] == said[1]
    assert remembered(in_columns) == remembered(one_by_one)


@pytest.mark.usefixtures("always_columns")
@pytest.mark.parametrize("window", [None, 40])
@given(ARRIVALS, st.lists(st.integers(0, 30), max_size=4), st.integers(1, 12))
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_columns_make_no_difference(
    window: int | None, arrivals: list[Arrival], cuts: list[int], capacity: int
) -> None:
    """Whatever there is in a topic, and in whatever batches."""
    edges = sorted({0, len(arrivals), *(cut for cut in cuts if cut < len(arrivals))})
    assert_no_difference(arrivals, edges, capacity, window)


@pytest.mark.usefixtures("always_columns")
@pytest.mark.parametrize("change", PLAIN + HOSTILE)
def test_none_among_plain_ones_makes_a_difference(change: Change) -> None:
    """One alone: among many, another one may be why they are read one by one."""
    plain: list[Arrival] = [(id, 4 * n, n, 5, {}, ()) for n, id in enumerate("abc")]
    assert_no_difference([*plain[:2], ("d", 8, 6, 5, change, ()), plain[2]], [0, 4], 10, None)


@pytest.mark.usefixtures("always_columns")
def test_what_one_vector_has_too_much_does_not_fill_up_another() -> None:
    values = [np.array([0.6, 0.8, 0], "<f4"), np.array([1], "<f4")]
    arrivals: list[Arrival] = [("a", 0, 1, 5, {"value": value.tobytes()}, ()) for value in values]
    assert_no_difference(arrivals, [0, 2], 10, None)


@pytest.mark.parametrize("change", PLAIN)
def test_what_a_worker_writes_is_read_in_columns(change: Change) -> None:
    """Mixed with others, too: a header need not be there in all of them."""
    records = [record_of(0, ("a", 0, 1, 5, {}, ())), record_of(1, ("b", 4, 7, 6, change, ()))]
    columns = read_columns(records, SPACE)
    assert columns is not None
    assert len(columns) == 2
    assert columns.timestamps == [5, 6]


def test_a_tombstone_keeps_the_rest_of_a_batch_from_columns_no_more_than_it_has_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    monkeypatch.setattr(apply, "_FEWEST_IN_COLUMNS", 2)
    monkeypatch.setattr(apply, "read_columns", lambda records, space: read.append(len(records)))
    changes: list[Change] = [{}, {}, {}, {"value": None}, {}, {"value": None}, {}, {}]
    records = [record_of(offset, (str(offset), 0, 1, 0, change, ())) for offset, change in enumerate(changes)]
    judge = Judge(VectorIndex(2, 10), VerdictPolicy())
    apply_records(judge, SPACE, records, lambda _: False)
    assert read == [3, 2]
    assert len(judge.index) == 6
