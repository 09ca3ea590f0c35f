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
from streamer.worker.vector_messages import OutputFormat
from tests.support.examples import examples

# Of a record's fields; "headers": values by name, None to leave one out; in JSON, "edit": what to replace by what, and
# "more": what else is in the object.
Change: TypeAlias = dict[str, Any]
Arrival: TypeAlias = tuple[str, int, int, int, Change, Headers]

SPACE = Space(provider="p", model="m", dimensions=2)
FORMATS: list[OutputFormat] = ["binary", "json"]
ENCODERS = {
    format: Encoder(space=SPACE, vectors_topic="vectors", dead_letters_topic="", format=format) for format in FORMATS
}
TEXTS = ["", "one report", "another report of 3 pages", "one report in 3 parts", "word " * 400]
METADATA: list[dict[str, Any] | None] = [
    None,
    {"lang": "en"},
    {"pages": [1, 2], "by": {"name": "x"}},
    {"x": "y" * 3000},
]

PLAIN: list[Change] = [
    {},
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
DEEP = [b'{"a":' * count + b"1" + b"}" * count for count in (120, 127, 128, 129, 200)]
EDITS: list[tuple[bytes, bytes]] = [
    *((b'"vector":[ 0.', b'"vector":[' + other) for other in (b"-0.", b"+0.", b" 1.", b"00.", b" .0", b" 0,", b"0.0,")),
    *((b'"vector":[ 0.', b'"vector":[ 0.' + other) for other in (b"x", b" ", b"1", b"e")),
    (b'"vector":[', b'"vector": ['),
    (b'"vector":[', b'"vectors":['),
    (b'"vector":[', b'"vector":[['),
    (b"],", b"]],"),
    (b"],", b",0.00000000],"),
    (b"],", b";"),
    (b'"id":', b'"no":'),
    (b'{"id":', b'{ "id":'),
    (b'{"id":', b'\xef\xbb\xbf{"id":'),
    (b'{"id":', b'{"vector":[0.6,0.8],"id":'),
    (b"],", b";,"),
    (b'"vector":[', b'"vectoR":['),
    (b'"cache_hit":false', b'"cache_hit":false}'),
    *((b"05, 0.139", other) for other in (
        b"05; 0.139", b"05,x0.139", b"05,+0.139", b"05, 1.139", b"05, x.139", b"05, 0,139", b"05, 0.x39", b"05, 0./39",
        b"05, 0.:39", b"05, 0. 39", b"05, 0.1e9", b"0x, 0.139", b"05,-0.139",
    )),
]  # fmt: skip
MORE: list[bytes] = [
    b'"vector":null', b'"vector":[0.6,0.8]', b'"\\u0076ector":null',
    b'"vector":100000000000000001', b'"vector":100000000000000001.0', b'"id":"other"', b'"space":"x"',
    b'"dimensions":3', b'"dimensions":2.0', b'"dimensions":true', b'"space":7', b'"model":7', b'"model":null',
    b'"model":"%b"' % (b"m" * 501), b'"source":null', b'"source":{}', b'"source":7', b'"text":7', b'"text":null',
    b'"source":{"topic":"t","partition":0,"offset":1}', b'"source":{"topic":7,"partition":0,"offset":1}',
    b'"source":{"topic":"t","partition":null,"offset":1}', b'"source":{"topic":"t","partition":0,"offset":1e999}',
    b'"source":{"topic":"t","partition":0,"offset":1,"timestamp":"x"}', b'"x":NaN', b'"text":"\\ud800"',
    b'"text":"\xff"', b'"text":"\\u0041 \\"vector\\":["', b'"metadata":[]', b'"metadata":{}',
    b'"metadata":{"a":NaN}', b"",
    *(b'"metadata":' + deep for deep in DEEP),
]  # fmt: skip
HOSTILE: list[Change] = [
    {"key": b""},
    {"key": "é".encode()},
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
    *({"edit": edit} for edit in EDITS),
    *({"more": more} for more in MORE),
]


# Id, direction in degrees, which text and metadata, timestamp, how it is changed, headers that come twice.
ARRIVALS: st.SearchStrategy[list[Arrival]] = st.lists(
    st.tuples(
        st.sampled_from("abcdefgé"),
        st.integers(0, 90).map(lambda n: n * 4),
        st.integers(0, len(TEXTS) * len(METADATA) - 1),
        st.integers(0, 100),
        st.just({}) | st.sampled_from(PLAIN) | st.sampled_from(PLAIN) | st.sampled_from(HOSTILE),
        st.sampled_from([(), (), (("streamer-space", b"0123456789ab"),), (("content-type", b"text/plain"),)]),
    ),
    max_size=30,
)


def record_of(offset: int, arrival: Arrival, format: OutputFormat) -> Record:
    """What a worker writes, and what may be found in its place."""
    id, degrees, about, timestamp, change, twice = arrival
    text, metadata = TEXTS[about % len(TEXTS)], METADATA[about // len(TEXTS)]
    tp = TopicPartition("texts", offset % 2)
    event = Event(Origin(tp, offset, 0), Record(tp, offset, None, b"", timestamp), id, text, metadata)
    vector = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)
    _, message = ENCODERS[format].encode(EmbeddedEvent(event, vector, 1, truncated=False, cache_hit=False), 0)
    record = Record(TopicPartition("vectors", 0), offset, message.key, message.value, timestamp, message.headers)
    headers = dict(record.headers) | change.get("headers", {})
    kept = tuple((name, value) for name, value in headers.items() if value is not None)
    fields = {name: value for name, value in change.items() if name not in ("headers", "edit", "more")}
    if format == "json":
        old, new = change.get("edit", (b"", b""))
        value = (record.value or b"").replace(old, new, 1)
        more = b"," + change["more"] if "more" in change else b""
        fields = {"value": value[:-1] + more + value[-1:]} | fields
    return replace(record, headers=(*kept, *twice), **fields)


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


def assert_no_difference(
    arrivals: Sequence[Arrival],
    formats: Sequence[OutputFormat],
    edges: Sequence[int],
    capacity: int = 10,
    window: int | None = None,
) -> None:
    """Between what is remembered in columns and one by one, batch by batch, nor between verdicts given afterwards.

    `formats`: of the arrivals in turn.
    """
    records = [record_of(offset, arrival, formats[offset % len(formats)]) for offset, arrival in enumerate(arrivals)]
    policy = VerdictPolicy(window=window)
    one_by_one, in_columns = (Judge(VectorIndex(2, capacity), policy) for _ in range(2))
    one_by_one.takes_columns = False
    for start, stop in pairwise(edges):
        expected, found = (apply_records(judge, SPACE, records[start:stop], None) for judge in (one_by_one, in_columns))
        assert (found.deletions, found.malformed) == (expected.deletions, expected.malformed)
        assert foreign(found) == foreign(expected)
        assert remembered(in_columns) == remembered(one_by_one)
    new = [record_of(len(records) + n, (id, 40 * n, n, 100, {}, ()), "json") for n, id in enumerate("abxyz")]
    said = [apply_records(judge, SPACE, new, lambda _: True).verdicts for judge in (in_columns, one_by_one)]
    assert said[0] == said[1]
    assert remembered(in_columns) == remembered(one_by_one)


@pytest.mark.usefixtures("always_columns")
@pytest.mark.parametrize("window", [None, 40])
@given(
    ARRIVALS,
    st.lists(st.sampled_from(FORMATS), min_size=1, max_size=3),
    st.lists(st.integers(0, 30), max_size=4),
    st.integers(1, 12),
)
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_columns_make_no_difference(
    window: int | None, arrivals: list[Arrival], formats: list[OutputFormat], cuts: list[int], capacity: int
) -> None:
    """Whatever there is in a topic, and in whatever batches."""
    edges = sorted({0, len(arrivals), *(cut for cut in cuts if cut < len(arrivals))})
    assert_no_difference(arrivals, formats, edges, capacity, window)


@pytest.mark.usefixtures("always_columns")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("change", PLAIN + HOSTILE)
def test_none_among_plain_ones_makes_a_difference(format: OutputFormat, change: Change) -> None:
    """One alone: among many, another one may be why they are read one by one."""
    plain: list[Arrival] = [(id, 4 + 80 * n, n, 5, {}, ()) for n, id in enumerate("abc")]
    changed: Arrival = ("d", 8, 6, 5, change, ())
    if format == "json" and change.keys() & {"edit", "more"}:
        assert record_of(2, changed, format) != record_of(2, ("d", 8, 6, 5, {}, ()), format), "nothing to replace"
    assert_no_difference([*plain[:2], changed, plain[2]], [format], [0, 4])


@pytest.mark.usefixtures("always_columns")
def test_what_one_vector_has_too_much_does_not_fill_up_another() -> None:
    values = [np.array([0.6, 0.8, 0], "<f4"), np.array([1], "<f4")]
    arrivals: list[Arrival] = [("a", 0, 1, 5, {"value": value.tobytes()}, ()) for value in values]
    assert_no_difference(arrivals, ["binary"], [0, 2])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("change", PLAIN)
def test_what_a_worker_writes_is_read_in_columns(format: OutputFormat, change: Change) -> None:
    """Mixed with others, too: a header need not be there in all of them."""
    plain: Arrival = ("a", 4, 1, 5, {}, ())
    records = [record_of(0, plain, format), record_of(1, ("b", 4, 7, 6, change, ()), format)]
    columns = read_columns(records, SPACE)
    assert columns is not None
    assert len(columns) == 2
    assert columns.timestamps == [5, 6]


def test_a_header_that_one_record_lacks_is_not_taken_from_the_next_one() -> None:
    """Together they have as many headers as three have, and in the same order."""
    first, second, third = (record_of(n, (str(n), 4, 6, 5, {}, ()), "binary") for n in range(3))
    *others, last = first.headers
    assert last[0] == "streamer-metadata"
    records = [first, replace(second, headers=tuple(others)), replace(third, headers=(last, *third.headers))]
    columns = read_columns(records, SPACE)
    assert columns is not None
    assert columns.metadata == [{"lang": "en"}, None, {"lang": "en"}]


def test_of_a_header_that_all_have_twice_the_last_one_counts() -> None:
    twice: Headers = (("streamer-metadata", b"[]"), ("streamer-metadata", b'{"lang":"de"}'))
    columns = read_columns([record_of(n, (str(n), 4, 6, 5, {}, twice), "binary") for n in range(2)], SPACE)
    assert columns is not None
    assert columns.metadata == [{"lang": "de"}] * 2


def test_a_tombstone_keeps_the_rest_of_a_batch_from_columns_no_more_than_it_has_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    monkeypatch.setattr(apply, "_FEWEST_IN_COLUMNS", 2)
    monkeypatch.setattr(apply, "read_columns", lambda records, space: read.append(len(records)))
    changes: list[Change] = [{}, {}, {}, {"value": None}, {}, {"value": None}, {}, {}]
    records = [record_of(offset, (str(offset), 0, 1, 0, change, ()), "binary") for offset, change in enumerate(changes)]
    judge = Judge(VectorIndex(2, 10), VerdictPolicy())
    apply_records(judge, SPACE, records, None)
    assert read == [3, 2]
    assert len(judge.index) == 6
