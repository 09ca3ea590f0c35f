"""What a process does without is told in one sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import pytest
from structlog.typing import EventDict

from streamer.app.outages import watch_outages
from streamer.telemetry.waiting import Waiting
from tests.worker.flows import until


@pytest.mark.anyio
async def test_an_outage_is_told_with_since_when_and_until_when(logs: list[EventDict]) -> None:
    """First hour D1 and R2."""
    state: Waiting | None = Waiting("provider_quota", "blocked: used up", 2_000_000_000.0)
    async with anyio.create_task_group() as tasks:
        began = datetime.now(UTC)
        tasks.start_soon(partial(watch_outages, {"provider": lambda: state}, settle=0.0))
        await until(lambda: len(logs) == 1)
        state = None
        await until(lambda: len(logs) == 2)
        tasks.cancel_scope.cancel()
    assert (logs[0]["event"], logs[0]["until"]) == ("provider unavailable", "2033-05-18T03:33:20Z")
    assert abs(datetime.fromisoformat(logs[0]["since"]) - began) < timedelta(seconds=10)
    assert logs[1]["event"] == "provider available again"
    assert "until" not in logs[1]
