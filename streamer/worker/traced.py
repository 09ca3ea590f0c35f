"""Events whose outcomes can be followed."""

from __future__ import annotations

from dataclasses import replace

from streamer.core.events import Event
from streamer.telemetry.tracing import Span


def traced(batch: list[Event], span: Span | None) -> list[Event]:
    """The events, each with a trace context in its record's headers, which pass through to what becomes of it: its own,
    else that of the batch's span."""
    if span is None:
        return batch
    ours = span.headers
    return [
        event
        if any(name == "traceparent" for name, _ in event.record.headers)
        else replace(event, record=replace(event.record, headers=event.record.headers + ours))
        for event in batch
    ]
