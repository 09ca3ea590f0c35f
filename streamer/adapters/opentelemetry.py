"""Spans through the OpenTelemetry API. What records them, and where they go, is the SDK's matter, which a program or
`opentelemetry-instrument` sets up; without one there are no spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streamer.telemetry.tracing import CONTEXT, Attributes, Headers, Span, SpanKind
from streamer.version import version

_KINDS: Final = {"consumer": trace.SpanKind.CONSUMER, "client": trace.SpanKind.CLIENT}
_W3C: Final = TraceContextTextMapPropagator()


class OpenTelemetry:
    """A Tracing. `provider` None: the global one, whenever that is set."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._provider = provider

    def span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Callable[[], Attributes],
        carriers: Callable[[], Iterable[Headers]] = tuple,
    ) -> AbstractContextManager[Span | None]:
        provider = self._provider or trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
            return nullcontext()  # there is no SDK
        return self._recorded(provider, name, kind, attributes, carriers)

    @contextmanager
    def _recorded(
        self,
        provider: trace.TracerProvider,
        name: str,
        kind: SpanKind,
        attributes: Callable[[], Attributes],
        carriers: Callable[[], Iterable[Headers]],
    ) -> Iterator[Span | None]:
        tracer = provider.get_tracer("streamer", version())
        with tracer.start_as_current_span(
            name, kind=_KINDS[kind], attributes=dict(attributes()), links=_links(carriers()), record_exception=False
        ) as span:
            if not span.is_recording():  # sampled out
                yield None
                return
            try:
                yield _Recorded(span)
            except BaseException as exc:
                span.set_attribute("error.type", type(exc).__qualname__)
                raise


class _Recorded:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def headers(self) -> Headers:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span))
        return tuple((name, value.encode()) for name, value in carrier.items())

    def put(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))


def _links(carriers: Iterable[Headers]) -> list[trace.Link]:
    """One for each context; several records may have come of one."""
    contexts: dict[tuple[int, int], trace.Link] = {}
    for headers in carriers:
        fields = {name: value.decode("latin-1") for name, value in headers if name in CONTEXT}
        if "traceparent" in fields:
            context = trace.get_current_span(_W3C.extract(fields)).get_span_context()
            if context.is_valid:
                contexts.setdefault((context.trace_id, context.span_id), trace.Link(context))
    return list(contexts.values())
