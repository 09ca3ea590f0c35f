"""Whether there is anything that records spans."""

from __future__ import annotations

from streamer.telemetry.tracing import NoTracing, Tracing


def find_tracing() -> Tracing:
    """OpenTelemetry, if its API is installed (the extra `tracing`); it costs nothing until an SDK is set up."""
    try:
        from streamer.adapters.opentelemetry import OpenTelemetry
    except ModuleNotFoundError:
        return NoTracing()
    return OpenTelemetry()
