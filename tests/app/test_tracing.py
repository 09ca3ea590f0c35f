"""OpenTelemetry is used where it is installed, and not missed where it is not."""

from __future__ import annotations

import sys

import pytest

from streamer.app.tracing import find_tracing
from streamer.telemetry.tracing import NoTracing


def test_it_is_found() -> None:
    assert type(find_tracing()).__name__ == "OpenTelemetry"


def test_without_it_there_are_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "streamer.adapters.opentelemetry", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    tracing = find_tracing()
    assert isinstance(tracing, NoTracing)
    with tracing.span("s", "consumer", dict) as span:
        assert span is None
