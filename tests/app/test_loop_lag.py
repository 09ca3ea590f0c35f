"""How late the event loop is."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from streamer.app.loop_lag import PERIOD, REMEMBERED, LoopLag
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_the_worst_delay_of_the_last_minute_is_told_and_then_forgotten() -> None:
    blocked = 0.0
    lag = LoopLag(clock=lambda: anyio.current_time() + blocked)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.watch)
        await anyio.sleep(10 * PERIOD)
        assert lag.worst == pytest.approx(0, abs=1e-9)
        blocked = 3.0  # the loop stood still while the clock went on
        await anyio.sleep(2 * PERIOD)
        assert lag.worst == pytest.approx(3.0)
        await anyio.sleep((REMEMBERED - 5) * PERIOD)
        assert lag.worst == pytest.approx(3.0)
        await anyio.sleep(10 * PERIOD)
        assert lag.worst == pytest.approx(0, abs=1e-9)
        tasks.cancel_scope.cancel()
