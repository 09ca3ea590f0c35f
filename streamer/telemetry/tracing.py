"""Spans, as the flow asks for them: it does not know who records them, and pays nothing while nobody does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol, TypeAlias

Headers: TypeAlias = tuple[tuple[str, bytes], ...]
Attributes: TypeAlias = Mapping[str, str | int | float | bool]
SpanKind: TypeAlias = Literal["consumer", "client"]

CONTEXT: Final = ("traceparent", "tracestate")
_LONGEST_CONTEXT: Final = 512  # bytes of a header: what W3C asks everybody to pass on


class Span(Protocol):
    """One that is recorded."""

    @property
    def headers(self) -> Headers:
        """The W3C context that names it, as record headers."""
        ...

    def put(self, attributes: Attributes) -> None: ...


class Tracing(Protocol):
    """Begins spans. An exception that leaves the block becomes the span's error."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Callable[[], Attributes],
        carriers: Callable[[], Iterable[Headers]] = tuple,
    ) -> AbstractContextManager[Span | None]:
        """None while nobody records. `carriers`: headers of records, whose W3C contexts the span links to. Both are
        only asked for what a span is made of."""
        ...


class NoTracing:
    """Nobody records."""

    def span(self, *_: object) -> AbstractContextManager[None]:
        return nullcontext()


class Consumed(Protocol):
    """A record."""

    @property
    def tp(self) -> tuple[str, int]: ...

    @property
    def headers(self) -> Headers: ...


class ConsumerTracing:
    """Spans of batches. `group`: the consumer group, as they tell it."""

    def __init__(self, tracing: Tracing | None = None, group: str = "") -> None:
        self._tracing = tracing or NoTracing()
        self._group = group

    def span(self, batch: Sequence[Consumed]) -> AbstractContextManager[Span | None]:
        """Around the work on a batch, which is not empty; linked to where its records come from."""
        return self._tracing.span(
            f"process {batch[0].tp[0]}",
            "consumer",
            lambda: consumed(self._group, (record.tp for record in batch), len(batch)),
            lambda: (record.headers for record in batch),
        )


def consumed(group: str, places: Iterable[tuple[str, int]], count: int) -> Attributes:
    """What OpenTelemetry's conventions for messaging want of a batch of so many records from these partitions."""
    partitions = set(places)
    topics = {topic for topic, _ in partitions}
    attributes: dict[str, str | int | float | bool] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": count,
    }
    if len(topics) == 1:
        attributes["messaging.destination.name"] = topics.pop()
        if len(partitions) == 1:
            attributes["messaging.destination.partition.id"] = str(partitions.pop()[1])
    return attributes


def embedded(provider: str, model: str, dimensions: int, texts: int) -> Attributes:
    """What OpenTelemetry's conventions for generative AI want of a call for so many texts."""
    return {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.embeddings.dimension.count": dimensions,
        "streamer.texts": texts,
    }


def context_of(headers: Headers) -> Headers:
    """The W3C context among a record's headers, as headers; empty without a `traceparent`."""
    found = tuple(header for header in headers if header[0] in CONTEXT and len(header[1]) <= _LONGEST_CONTEXT)
    return found if any(name == "traceparent" for name, _ in found) else ()


def trace_of(headers: Headers) -> str | None:
    """The trace id of a W3C `traceparent`, None without a good one."""
    for name, value in headers:
        if name == "traceparent":
            parts = value.split(b"-")
            return parts[1].decode("ascii", "replace") if len(parts) == 4 and len(parts[1]) == 32 else None
    return None
