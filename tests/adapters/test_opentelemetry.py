"""Spans as OpenTelemetry's SDK records them: through a worker's flow, a provider's calls, and an indexer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from streamer.adapters.opentelemetry import OpenTelemetry
from streamer.core.events import Headers, Record, TopicPartition
from streamer.core.vectors import Purpose
from streamer.embedding.dispatcher import Dispatcher
from streamer.errors import RetriableError
from streamer.protocols import Embedding, Rejection
from streamer.telemetry.tracing import ConsumerTracing
from streamer.testing import HashProvider, MemorySink, MemorySource, record
from tests.embedding.providers import Call, FakeProvider, contract
from tests.support.indexing import Running, Topic
from tests.worker.flows import pipeline, until

pytestmark = pytest.mark.anyio
A = TopicPartition("texts", 0)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED: Headers = (("traceparent", f"00-{TRACE}-{PARENT}-01".encode()), ("tracestate", b"vendor=1"))


class Recorded:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = OpenTelemetry(self.provider)

    def named(self, start: str) -> Sequence[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(start)]


class Traced:
    """An embedder whose calls are those of a dispatcher."""

    def __init__(self, recorded: Recorded) -> None:
        self._dispatcher = Dispatcher(HashProvider(), contract(provider="fake", model="hash"), tracing=recorded.tracing)
        self.space = self._dispatcher.space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        return await self._dispatcher.embed(texts, purpose)


def with_headers(made: Record, headers: Headers) -> Record:
    return Record(made.tp, made.offset, made.key, made.value, made.timestamp, headers)


async def test_a_batch_is_one_span_with_links_to_its_events_and_its_calls_are_inside() -> None:
    recorded = Recorded()
    plain = [record(A, n, b'{"text": "t%d"}' % n, b"%d" % n) for n in range(7)]
    log = [with_headers(plain[0], TRACED), with_headers(plain[1], TRACED), *plain[2:]]
    sink = MemorySink()
    flow = pipeline(
        MemorySource({A: log}), Traced(recorded), sink, tracing=ConsumerTracing(recorded.tracing, "my-group")
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: len(sink.acknowledged) == 7)
        flow.stop()
    [batch] = recorded.named("process texts")
    assert batch.kind is SpanKind.CONSUMER
    assert batch.attributes is not None
    assert dict(batch.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "my-group",
        "messaging.batch.message_count": 7,
        "messaging.destination.name": "texts",
        "messaging.destination.partition.id": "0",
    }
    assert [(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in batch.links] == [
        (TRACE, PARENT)
    ]
    [call] = recorded.named("embeddings hash")
    assert call.kind is SpanKind.CLIENT
    assert call.parent is not None
    assert batch.context is not None
    assert call.parent.span_id == batch.context.span_id
    assert call.attributes is not None
    assert call.attributes["gen_ai.operation.name"] == "embeddings"
    assert call.attributes["gen_ai.provider.name"] == "fake"
    assert call.attributes["gen_ai.request.model"] == "hash"
    contexts = [dict(message.headers)["traceparent"] for message in sink.sent]
    ours = f"00-{batch.context.trace_id:032x}-{batch.context.span_id:016x}-".encode()
    assert contexts[:2] == [TRACED[0][1]] * 2
    assert all(context.startswith(ours) for context in contexts[2:]), "without a trace of its own, that of the batch"
    marks = [mark for mark in flow.times.end_to_end.exemplars() if mark]
    assert [mark.trace for mark in marks] == [TRACE], "of the oldest event"


async def test_a_call_that_fails_is_a_span_with_its_error() -> None:
    recorded = Recorded()

    async def behave(call: Call) -> None:
        if call.number == 0:
            raise RetriableError("answered 500")

    service = Dispatcher(FakeProvider(behave), contract(), random=lambda: 0.0, tracing=recorded.tracing)
    with anyio.fail_after(30):
        await service.embed(["a", "b"], "document")
    failed, answered = recorded.named("embeddings")
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "RetriableError"
    assert answered.status.status_code is StatusCode.UNSET


async def test_an_indexer_s_batch_is_linked_to_its_vectors_and_verdicts_go_on_with_their_traces() -> None:
    recorded, topic = Recorded(), Topic()
    topic.append("untraced", 0)
    topic.append("gone", None)
    topic.append("traced", 90)
    [log] = topic.logs.values()
    log[2] = with_headers(log[2], log[2].headers + TRACED)
    this = Running(topic, tracing=ConsumerTracing(recorded.tracing, "g-verdicts"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: len(topic.verdicts) == 2)
        this.indexer.stop()
    [batch] = recorded.named("process ")
    assert [f"{link.context.trace_id:032x}" for link in batch.links] == [TRACE]
    assert batch.attributes is not None
    assert batch.attributes["messaging.consumer.group.name"] == "g-verdicts"
    assert batch.context is not None
    contexts = {message.key: dict(message.headers) for message in topic.verdicts}
    assert contexts[b"traced"].items() >= set(TRACED)
    ours = f"00-{batch.context.trace_id:032x}-{batch.context.span_id:016x}-".encode()
    assert contexts[b"untraced"]["traceparent"].startswith(ours), "without a trace of its own, that of the batch"


async def test_without_tracing_a_verdict_carries_what_its_vector_came_with() -> None:
    topic = Topic()
    topic.append("plain", 0)
    topic.append("traced", 90)
    [log] = topic.logs.values()
    log[1] = with_headers(log[1], log[1].headers + TRACED)
    this = Running(topic)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.until(lambda: len(topic.verdicts) == 2)
        this.indexer.stop()
    plain, traced = (dict(message.headers) for message in topic.verdicts)
    assert "traceparent" not in plain
    assert traced.items() >= set(TRACED)


def test_headers_that_are_no_context_are_no_links() -> None:
    recorded = Recorded()
    broken: list[Headers] = [(), (("traceparent", b"nonsense"),), (("traceparent", b"\xff"),), (("tracestate", b"x"),)]
    with recorded.tracing.span("s", "consumer", dict, lambda: broken) as span:
        assert span is not None
    [found] = recorded.named("s")
    assert not found.links


def test_nothing_is_made_without_an_sdk_or_where_it_samples_a_span_out() -> None:
    def never() -> Any:
        raise AssertionError("asked for")

    with OpenTelemetry().span("s", "consumer", never, never) as span:
        assert span is None
    with OpenTelemetry(TracerProvider(sampler=ALWAYS_OFF)).span("s", "consumer", dict) as span:
        assert span is None
