"""Local models for tests that are about something else than loading them."""

from __future__ import annotations

import functools

import pytest

from streamer.adapters.providers import onnx
from streamer.adapters.providers.onnx_models import load

loaded = functools.cache(load)


@pytest.fixture
def models_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a second each time, in tests that open a model dozens of times."""
    monkeypatch.setattr(onnx, "load", loaded)
