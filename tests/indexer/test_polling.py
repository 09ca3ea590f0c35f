"""A poll and the work beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from anyio import Event, from_thread
from anyio.to_thread import run_sync

from streamer.core.events import Record
from streamer.indexer.polling import Polling
from streamer.indexer.progress import Progress
from tests.support.indexing import P0, Running, Topic

pytestmark = pytest.mark.anyio
RECORD = Record(P0, 7, b"k", b"v", 0)


class Fetched:
    """A changelog that hands over what has been fetched, without letting anybody else run."""

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened

    async def poll(self, timeout: float) -> Sequence[Record]:
        del timeout
        self._happened.append("polled")
        return [RECORD]


def polling(happened: list[str]) -> Polling:
    changelog: Any = Fetched(happened)
    return Polling(changelog, 1.0)


async def test_work_is_in_its_thread_before_the_poll_reads() -> None:
    happened: list[str] = []

    async def work(at_work: Event) -> None:
        def in_thread() -> None:
            happened.append("begun")
            from_thread.run_sync(at_work.set)

        await run_sync(in_thread)

    assert await polling(happened).beside(work) == [RECORD]
    assert happened == ["begun", "polled"]


async def test_work_may_have_nothing_to_do() -> None:
    async def work(at_work: Event) -> None:
        del at_work

    assert await polling([]).beside(work) == [RECORD]


async def test_an_error_of_the_work_is_raised() -> None:
    async def work(at_work: Event) -> None:
        del at_work
        raise RuntimeError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        await polling([]).beside(work)
    assert str(caught.value.exceptions[0]) == "broken"


async def test_a_poll_may_begin_beside_a_batch_that_is_applied() -> None:
    at_work = Event()
    state = Running(Topic()).indexer._state
    assert await state.apply([RECORD], Progress(), "verdicts", at_work=at_work) == []
    with anyio.fail_after(10):
        await at_work.wait()
