"""What the broker refuses about single records: they leave in a lesser form, and everything else does not notice."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

import anyio
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.decoding import Decoder
from streamer.core.events import Message, Record, TopicPartition, message_bytes
from streamer.core.reading import MAX_DEPTH, read_json
from streamer.errors import DeadLetterKind, PartitionLost
from streamer.protocols import Acknowledgement
from streamer.testing import SPACE, HashEmbedder, MemorySource, record
from streamer.worker.batching import BatchPolicy
from streamer.worker.encoding import Encoder
from streamer.worker.pipeline import Pipeline
from streamer.worker.settings import PipelineSettings
from streamer.worker.vector_messages import VectorMessages
from tests.support.examples import examples
from tests.support.refusing import RefusingSink

pytestmark = pytest.mark.anyio

TP = TopicPartition("texts", 0)
GOOD = b'{"text": "the parcel is late", "stars": 2}'


def pipeline(source: MemorySource, sink: RefusingSink, *, max_bytes: int = 1_000_000) -> Pipeline:
    flow = PipelineSettings(
        batch=BatchPolicy(max_events=7, linger=0.001),
        max_batches=4,
        max_in_flight_events=100,
        max_in_flight_bytes=10_000_000,
        commit_interval=0.003,
        drain_timeout=5.0,
        poll_timeout=0.01,
    )
    encoder = Encoder(
        space=SPACE, vectors_topic="vectors", dead_letters_topic="dead", include_text=True, max_bytes=max_bytes
    )
    return Pipeline(source, HashEmbedder(), sink, Decoder(), encoder, flow)


async def run(records: Sequence[Record], sink: RefusingSink, *, max_bytes: int = 1_000_000) -> Pipeline:
    source = MemorySource({TP: records})
    flow = pipeline(source, sink, max_bytes=max_bytes)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([TP])
        with anyio.fail_after(20):
            while source.committed.get(TP) != records[-1].offset + 1:  # noqa: ASYNC110 - only asking tells
                await anyio.sleep(0.001)
        flow.stop()
    return flow


def is_large(limit: int, topic: str) -> Callable[[Message], DeadLetterKind | None]:
    return lambda m: "too_large" if m.topic == topic and message_bytes(m) > limit else None


def headers_of(message: Message) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in message.headers}


@pytest.mark.parametrize("where", ["encoder", "broker"])
async def test_row_12_a_vector_event_that_does_not_fit_leaves_without_what_it_carries_for_others(where: str) -> None:
    """Field case 12: huge headers around a good text."""
    large = record(TP, 1, GOOD, b"large", (("trace", b"x" * 5000),))
    sink = RefusingSink(is_large(3000 if where == "broker" else 10**9, "vectors"))
    flow = await run([record(TP, 0, GOOD, b"a"), large, record(TP, 2, GOOD, b"b")], sink,
                     max_bytes=3000 if where == "encoder" else 10**9)  # fmt: skip
    assert [(m.topic, m.key) for m in sink.sent] == [("vectors", b"a"), ("vectors", b"large"), ("vectors", b"b")]
    headers = headers_of(sink.sent[1])
    assert headers["streamer-left-out"] == "text, metadata, headers"
    assert "trace" not in headers
    body = orjson.loads(sink.sent[1].value or b"")
    assert ("text" in body, "metadata" in body, len(body["vector"])) == (False, False, 8)
    assert flow.statistics().embedded_total == 3


@pytest.mark.parametrize("kind", ["too_large", "unpublishable"])
async def test_an_event_that_is_refused_in_every_form_becomes_a_dead_letter(kind: DeadLetterKind) -> None:
    sink = RefusingSink(lambda m: kind if m.topic == "vectors" and m.key == b"bad" else None)
    flow = await run([record(TP, n, GOOD, b"bad" if n == 3 else b"%d" % n) for n in range(9)], sink)
    (letter,) = [m for m in sink.sent if m.topic == "dead"]
    assert (letter.key, letter.value) == (b"bad", GOOD)
    assert headers_of(letter)["streamer-error-kind"] == kind
    assert "the broker says no" in headers_of(letter)["streamer-error"]
    assert (flow.statistics().embedded_total, sum(flow.statistics().dead_letters_total.values())) == (8, 1)


@pytest.mark.parametrize("limit", [2000, 700])
async def test_rows_12b_and_f5_a_dead_letter_sheds_what_it_holds_until_it_is_taken(limit: int) -> None:
    """Field cases 12b and F5: a dead-letter topic of 2 kB, 2 MB of headers."""
    bad = record(TP, 0, b"{" + b"x" * 5000, b"k" * 3000, (("h", b"y" * 4000),))
    sink = RefusingSink(is_large(limit, "dead"))
    await run([bad, record(TP, 1, GOOD, b"good")], sink)
    assert [m.topic for m in sink.sent] == ["dead", "vectors"]
    headers = headers_of(sink.sent[0])
    assert (headers["streamer-error-kind"], headers["streamer-source"]) == ("undecodable", "texts/0/0")
    assert (headers["streamer-value-bytes"], headers["streamer-key-bytes"], headers["streamer-headers-bytes"]) == (
        "5001", "3000", "4001",
    )  # fmt: skip
    assert sink.sent[0].value == b""
    assert sink.sent[0].key == (b"k" * 1000 if limit == 2000 else b"texts/0/0")


async def test_a_compacted_dead_letter_topic_gets_a_key() -> None:
    """Field cases 12b and F5."""
    sink = RefusingSink(lambda m: "unpublishable" if m.key is None else None)
    await run([record(TP, 0, b"{bad", None), record(TP, 1, GOOD, None)], sink)
    assert [(m.topic, m.key, m.value) for m in sink.sent[:1]] == [("dead", b"texts/0/0", b"{bad")]


async def test_the_least_dead_letter_is_waited_for() -> None:
    """Field cases 12b and F5. A broker that takes not even that is an outage: nothing is dropped, nobody exits."""
    patience = 0

    def refuses(message: Message) -> DeadLetterKind | None:
        nonlocal patience
        patience += message.topic == "dead"
        return "too_large" if message.topic == "dead" and patience < 20 else None

    sink = RefusingSink(refuses)
    flow = await run([record(TP, 0, b"{bad"), record(TP, 1, GOOD)], sink)
    assert [m.topic for m in sink.sent] == ["dead", "vectors"]
    assert sum(flow.statistics().dead_letters_total.values()) == 1


@pytest.mark.parametrize("value", [None, GOOD])
async def test_a_tombstone_or_event_refused_for_its_headers_is_published_without(value: bytes | None) -> None:
    sink = RefusingSink(lambda m: "unpublishable" if "bad" in headers_of(m) else None)
    await run([record(TP, 0, value, b"k", (("bad", b"1"),))], sink)
    assert [(m.topic, m.key) for m in sink.sent] == [("vectors", b"k")]


async def test_what_was_refused_is_remembered_when_the_partition_is_read_again() -> None:
    """With transactions nothing of the refused one is committed: the next one goes without it, and does not loop."""

    class Transactional(RefusingSink):
        async def send(self, messages: Sequence[Message]) -> Acknowledgement:
            refused = [m for m in messages if self.refuses(m)]
            for message in refused:
                self.refused.append(message)
                assert message.instead is not None
                message.instead("too_large", "the broker says no")
            if not refused:
                return await super().send(messages)

            async def lose() -> None:
                lost.set()
                raise PartitionLost("a transaction failed", {TP})

            return lose

    lost = anyio.Event()
    sink = Transactional(lambda m: "too_large" if m.topic == "vectors" and m.key == b"bad" else None)
    source = MemorySource({TP: [record(TP, n, GOOD, b"bad" if n == 1 else b"%d" % n) for n in range(4)]})
    flow = pipeline(source, sink)
    rounds = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([TP])
        with anyio.fail_after(20):
            while source.committed.get(TP) != 4:
                await anyio.sleep(0.001)
                if lost.is_set():
                    lost, rounds = anyio.Event(), rounds + 1
                    await flow.on_lost([TP])
                    source.rewind()
                    await flow.on_assigned([TP])
        flow.stop()
    assert [m.topic for m in sink.sent if m.key == b"bad"] == ["dead"]
    assert len(sink.sent) == 4
    assert rounds == 3, "one for each form that was refused"


def test_an_outcome_that_cannot_be_encoded_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding is total; were it not, one record still would not end the worker."""

    def broken(*_: object) -> Message:
        raise TypeError("Recursion limit reached")

    monkeypatch.setattr(VectorMessages, "made_of", broken)
    sink = RefusingSink(lambda m: None)
    anyio.run(run, [record(TP, 0, GOOD, b"a"), record(TP, 1, None, b"b")], sink)
    assert [m.topic for m in sink.sent] == ["dead", "vectors"]
    assert headers_of(sink.sent[0])["streamer-error-kind"] == "unpublishable"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
deep = st.integers(0, 1200).map(lambda levels: b'{"text": "t", "m": ' + b"[" * levels + b"]" * levels + b"}")
documents = st.builds(
    lambda text, rest: json.dumps({**rest, "text": text}).encode(), st.text(), st.dictionaries(st.text(), json_values)
)
values = (
    st.none()
    | st.binary(max_size=60)
    | documents
    | deep
    | st.builds(lambda data: b"\x00\x00\x00\x00\x07" + data, documents | st.binary(max_size=9))
    | st.integers(0, 5000).map(lambda size: b"x" * size)
)
keys = st.none() | st.binary(max_size=12) | st.integers(4090, 4100).map(lambda size: b"k" * size)
headers = st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=30)), max_size=4).map(tuple)


@settings(max_examples=examples(150))
@given(
    st.lists(st.tuples(values, keys, headers, st.integers(-1, 2**63 - 1)), min_size=1, max_size=25),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([400, 1500, 1_000_000]),
)
def test_random_records_and_a_broker_that_refuses_at_random(
    drawn: list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...], int]],
    seed: int,
    share: float,
    max_bytes: int,
) -> None:
    """The flow lives; every record comes out once, in order, as a vector, a tombstone or a dead letter."""
    records = [
        Record(TP, 2 * n, key, value, timestamp, headers) for n, (value, key, headers, timestamp) in enumerate(drawn)
    ]
    rng = random.Random(seed)
    kinds: list[DeadLetterKind] = ["too_large", "unpublishable"]
    sink = RefusingSink(lambda m: rng.choice(kinds) if rng.random() < share else None)
    anyio.run(lambda: run(records, sink, max_bytes=max_bytes))
    places = [int(dict(m.headers)["streamer-source"].rsplit(b"/", 1)[1]) for m in sink.sent]
    assert places == [r.offset for r in records]
    for message in sink.sent:
        if message.topic == "vectors" and message.value is not None:
            assert read_json(message.value, MAX_DEPTH + 1)["vector"], "metadata lie one level deeper than they came"
        else:
            assert message.topic == "vectors" or dict(message.headers)["streamer-error-kind"]


async def test_row_13_a_record_that_could_not_be_read_whole_is_a_dead_letter_by_its_coordinates() -> None:
    """Field case 13."""
    bad = Record(TP, 0, b"k", GOOD, 1, (("good", b"1"),), "the name of a header is not UTF-8")
    sink = RefusingSink(lambda m: None)
    await run([bad, record(TP, 1, GOOD, b"a")], sink)
    headers = headers_of(sink.sent[0])
    assert (sink.sent[0].topic, sink.sent[0].key, sink.sent[0].value) == ("dead", b"k", GOOD)
    assert (headers["streamer-error-kind"], headers["streamer-source"]) == ("undecodable", "texts/0/0")
    assert (headers["streamer-error"], headers["good"]) == ("the name of a header is not UTF-8", "1")
    assert sink.sent[1].topic == "vectors"
