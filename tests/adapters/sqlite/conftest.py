from __future__ import annotations

import pytest

from streamer.adapters.sqlite import cache as cache_module


@pytest.fixture(autouse=True)
def a_slow_disk_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test has stored it finds, however many others use the disk."""
    monkeypatch.setattr(cache_module, "PATIENCE_SECONDS", 60.0)
