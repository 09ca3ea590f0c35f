"""A provider that takes calls and answers none is named before the first call runs out of time."""

from __future__ import annotations

import anyio
import pytest

from streamer.embedding.silence import PATIENCE, SLOWER, UNKNOWN_PATIENCE, Silence
from streamer.errors import RetriableError
from tests.embedding.dispatching import dispatcher
from tests.embedding.providers import Call, FakeProvider

pytestmark = pytest.mark.anyio


def test_silence_begins_with_the_first_call_that_is_not_answered() -> None:
    silence = Silence()
    silence.begins(0.0)
    silence.answered(0.2, 0.2)
    assert silence.lasts(100.0) is None, "nobody asked"
    silence.begins(100.0)
    silence.begins(103.0)
    assert silence.lasts(100.0 + PATIENCE) is None
    assert silence.lasts(106.0) == 6.0
    silence.answered(6.0, 106.0)
    assert silence.lasts(107.0) is None, "one is still open, but another has been answered"


def test_who_is_slow_may_be_slow() -> None:
    silence = Silence()
    silence.begins(0.0)
    assert silence.lasts(UNKNOWN_PATIENCE) is None
    assert silence.lasts(UNKNOWN_PATIENCE + 1) == UNKNOWN_PATIENCE + 1
    silence.answered(20.0, 20.0)
    silence.begins(21.0)
    assert silence.lasts(21.0 + SLOWER * 20.0) is None
    assert silence.lasts(22.0 + SLOWER * 20.0) is not None


def test_a_call_that_ran_out_of_time_does_not_end_it_and_one_that_was_called_off_does() -> None:
    silence = Silence()
    silence.begins(0.0)
    silence.failed()
    silence.begins(70.0)
    assert silence.lasts(71.0) == 71.0
    silence.abandoned()
    assert silence.lasts(72.0) is None


async def test_a_provider_that_hangs_is_named_within_five_seconds_until_it_answers() -> None:
    async def behave(call: Call) -> None:
        if call.number == 1:
            await anyio.sleep_forever()
        if call.number == 2:
            raise RetriableError("connection refused")

    service = dispatcher(FakeProvider(behave))
    await service.embed(["first"], "document")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.embed, ["second"], "document")
        await anyio.sleep(5)
        waiting = service.waiting()
        assert waiting is not None
        assert (waiting.reason, waiting.text) == ("provider_down", "down: no answer for 5 s")
        await anyio.sleep(60)  # it has run out of time and is made again, and again
        assert service.state() is None
    assert service.state() is None
