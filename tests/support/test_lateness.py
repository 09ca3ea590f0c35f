"""What tests excuse on a loaded machine."""

from __future__ import annotations

import time

import anyio
import pytest

from streamer.app.loop_lag import LoopLag
from tests.support.lateness import HANDOVERS, excused, timed

pytestmark = pytest.mark.anyio


async def test_a_loop_that_gets_no_turn_is_no_slowness() -> None:
    async with timed() as took:
        await anyio.sleep(0.01)
        began = time.monotonic()
        time.sleep(0.3)  # noqa: ASYNC251 - as if others had the processor
        blocked = time.monotonic() - began
        await anyio.sleep(0.3)
    assert took.seconds < 0.6 + blocked - HANDOVERS * 0.2
    assert excused(LoopLag()) == 0, "a loop that was never late excuses nothing"
