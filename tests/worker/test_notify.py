"""Tasks that wait for each other miss no wake-up."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from streamer.worker.notify import Notify

pytestmark = pytest.mark.anyio


async def test_everyone_who_waits_is_woken_and_who_comes_later_waits_for_the_next() -> None:
    signal = Notify()
    woken: list[str] = []

    async def wait(name: str) -> None:
        await signal.wait()
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        signal.notify()  # nobody waits yet: it is not kept
        tasks.start_soon(wait, "first")
        tasks.start_soon(wait, "second")
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        signal.notify()
        tasks.start_soon(wait, "late")
        await anyio.wait_all_tasks_blocked()
        assert sorted(woken) == ["first", "second"]
        signal.notify()
    assert sorted(woken) == ["first", "late", "second"]


async def test_who_checks_and_then_waits_sees_every_change() -> None:
    signal, items, seen = Notify(), list[int](), list[int]()

    async def consume() -> None:
        while len(seen) < 100:
            while not items:
                await signal.wait()
            seen.append(items.pop(0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        for number in range(100):
            items.append(number)
            signal.notify()
            if number % 3:
                await anyio.lowlevel.checkpoint()
    assert seen == [*range(100)]
