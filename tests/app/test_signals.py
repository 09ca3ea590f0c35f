"""What signals do to a process; what they do at each of its moments, the tests of faults show."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import anyio
import pytest

from streamer.app.signals import until_signalled

pytestmark = pytest.mark.anyio


@pytest.fixture
def hangup() -> Iterator[None]:
    """As in a terminal, even where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


async def listening(number: signal.Signals, before: object) -> None:
    """Until the loop has taken the signal over from what handled it `before`."""
    while signal.getsignal(number) is before:  # noqa: ASYNC110 - only asking tells
        await anyio.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_the_first_stops_in_order_and_the_second_at_once(number: signal.Signals, hangup: None) -> None:
    stopping, before = anyio.Event(), signal.getsignal(number)
    with anyio.fail_after(20):
        async with until_signalled(stopping.set):
            await listening(number, before)
            os.kill(os.getpid(), number)
            await stopping.wait()
            os.kill(os.getpid(), number)
            await anyio.sleep_forever()


async def test_under_nohup_a_closed_terminal_stops_nothing(hangup: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stopping, before = anyio.Event(), signal.getsignal(signal.SIGTERM)
    with anyio.fail_after(20):
        async with until_signalled(stopping.set):
            await listening(signal.SIGTERM, before)
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert not stopping.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await stopping.wait()
