"""What is waited for is seen while nobody asks."""

from __future__ import annotations

import anyio
import pytest

from streamer.app.conditions import Conditions
from streamer.telemetry.waiting import Held, Waiting

pytestmark = pytest.mark.anyio


async def test_since_is_when_it_began_and_not_when_somebody_asked() -> None:
    now, found, seen = 100.0, [Waiting("provider_down", "answered 500")], anyio.Event()

    def look() -> list[Waiting]:
        seen.set()
        return found

    conditions = Conditions(look, list, lambda: 0.0, clock=lambda: now)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(conditions.watch)
        await seen.wait()
        tasks.cancel_scope.cancel()
    now = 160.0
    assert conditions.waits() == [Held("provider_down", "answered 500", 100.0, None)]
    assert conditions.lacks() == []
    assert conditions.started == 100.0
