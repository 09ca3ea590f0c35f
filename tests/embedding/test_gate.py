"""When calls to an account may go out, on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from streamer.embedding.backoff import BackoffPolicy
from streamer.embedding.gate import DOWN_AFTER, Call, Gate
from streamer.embedding.quota import Quota
from streamer.errors import ProviderBlocked, RateLimited, RetriableError
from streamer.protocols import SharedQuota, Turn

pytestmark = pytest.mark.anyio

PROBING = BackoffPolicy(initial=10.0, maximum=40.0)


def gate(
    quota: Quota | None = None,
    *,
    concurrency: int = 4,
    waits_when_blocked: bool = True,
    shared: SharedQuota | None = None,
) -> Gate:
    return Gate(
        quota or Quota(requests_per_minute=60_000),
        concurrency=concurrency,
        backoff=BackoffPolicy(),
        probing=PROBING,
        random=lambda: 0.0,
        waits_when_blocked=waits_when_blocked,
        shared=shared,
    )


async def refuse(this: Gate, error: RetriableError, attempt: int = 0) -> None:
    async with this.admit(1, 1) as call:
        await this.failed(call, error, attempt)


async def succeed(this: Gate, tokens: float = 1) -> None:
    async with this.admit(tokens, 1) as call:
        this.answered(call, tokens=None, headers=None)


@asynccontextmanager
async def beside(*calls: Callable[[], Awaitable[object]]) -> AsyncIterator[list[float]]:
    """When each of the calls was done, in that order."""
    done: list[float] = []

    async def make(call: Callable[[], Awaitable[object]]) -> None:
        await call()
        done.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(make, call)
        await anyio.wait_all_tasks_blocked()
        yield done


async def test_as_many_calls_are_open_as_the_concurrency_allows() -> None:
    this, most = gate(concurrency=3), 0

    async def hold() -> None:
        nonlocal most
        async with this.admit(1, 1):
            most = max(most, this.in_flight)
            await anyio.sleep(1)

    async with beside(*[hold] * 9) as done:
        assert this.in_flight == 3
    assert (most, this.in_flight) == (3, 0)
    assert done == pytest.approx([1.0] * 3 + [2.0] * 3 + [3.0] * 3)


async def test_a_large_call_is_not_overtaken_by_small_ones_that_came_later() -> None:
    this, order = gate(Quota(tokens_per_minute=600)), []

    async def take(tokens: float) -> None:
        async with this.admit(tokens, 1):
            order.append(tokens)

    async with anyio.create_task_group() as tasks:
        for tokens in (300, 500, 1, 2):
            tasks.start_soon(take, tokens)
            await anyio.wait_all_tasks_blocked()
    assert order == [300, 500, 1, 2]
    assert anyio.current_time() > 1


async def test_a_pause_holds_back_everybody_until_its_end() -> None:
    this = gate()
    await refuse(this, RateLimited("slow down", retry_after=30.0))
    assert anyio.current_time() == 0, "who was refused does not sleep: it queues with all the others"
    assert (this.state() or "").startswith("rate limited until ")
    async with beside(*[lambda: succeed(this)] * 3) as done:
        assert done == []
    assert all(30.0 <= at < 31.0 for at in done)
    assert this.state() is None


async def test_who_waits_for_room_goes_as_soon_as_a_correction_makes_some() -> None:
    this = gate(Quota(tokens_per_minute=600))
    async with this.admit(600, 1) as call, beside(lambda: succeed(this, 600)) as done:
        this.answered(call, tokens=0, headers=None)  # it cost nothing after all
    assert done[0] < 1, "not after the minute that was foreseen"


async def test_a_pause_holds_back_who_waits_for_room_already() -> None:
    this = gate(Quota(tokens_per_minute=600))
    async with this.admit(600, 1) as call, beside(lambda: succeed(this, 600)) as done:
        await this.failed(call, RateLimited("slow down", retry_after=100.0), 0)
    assert 100 <= done[0] < 102


async def test_another_failure_makes_only_its_own_caller_wait() -> None:
    this = gate()
    async with beside(lambda: refuse(this, RetriableError("503", retry_after=20.0))) as failed:
        await succeed(this)
        assert anyio.current_time() < 1
    assert 20 <= failed[0] < 21


async def test_failures_in_a_row_are_told_and_forgotten_with_the_next_answer() -> None:
    this = gate()
    for number in range(DOWN_AFTER):
        assert this.state() is None
        await refuse(this, RetriableError(f"503, number {number}"))
    assert this.state() == f"down: 503, number {DOWN_AFTER - 1}"
    await succeed(this)
    assert this.state() is None


async def test_a_blocked_account_is_seen_to_by_one_call_at_a_time_after_longer_and_longer_pauses() -> None:
    this = gate()
    probes: list[float] = []

    async def work() -> None:
        while True:
            async with this.admit(1, 1) as call:
                assert call.is_probe == (anyio.current_time() > 0)
                if anyio.current_time() > 0:
                    probes.append(anyio.current_time())
                    assert this.in_flight == 1
                if len(probes) == 4:
                    this.answered(call, tokens=None, headers=None)
                    return
                await this.failed(call, ProviderBlocked("no credit left"), 0)

    async with beside(work):
        assert this.state() == "blocked: no credit left"
    assert probes == pytest.approx([5, 15, 35, 55], abs=0.1)
    assert this.state() is None
    await succeed(this)
    assert anyio.current_time() == pytest.approx(probes[-1], abs=0.1)


async def test_an_answer_to_a_call_from_before_the_block_does_not_end_it() -> None:
    this = gate()
    async with this.admit(1, 1) as early:
        await refuse(this, ProviderBlocked("no credit left"))
        this.answered(early, tokens=None, headers=None)
    assert this.state() == "blocked: no credit left"


async def test_who_does_not_wait_for_a_blocked_account_is_refused_until_it_may_be_probed() -> None:
    this = gate(waits_when_blocked=False)
    await refuse(this, ProviderBlocked("no credit left"))
    with pytest.raises(ProviderBlocked, match="no credit left"):
        await succeed(this)
    await anyio.sleep(PROBING.initial)
    await succeed(this)
    assert this.state() is None


@pytest.mark.parametrize("stage", ["slot", "turn", "room", "open"])
async def test_a_call_that_is_cancelled_gives_back_all_that_it_has(stage: str) -> None:
    quota = Quota(tokens_per_minute=600)
    this = gate(quota, concurrency=1 if stage == "slot" else 4)
    opened: list[Call] = []

    async def hold() -> None:
        async with this.admit(600, 1) as call:
            opened.append(call)
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        for _ in range({"slot": 2, "turn": 3, "room": 2, "open": 1}[stage]):
            tasks.start_soon(hold)
            await anyio.wait_all_tasks_blocked()
        assert len(opened) == this.in_flight == 1
        tasks.cancel_scope.cancel()
    assert this.in_flight == 0
    with anyio.fail_after(120):
        for _ in range(4):
            await succeed(this)


async def test_a_debugger_reads_how_many_calls_are_open_and_what_holds_others_back() -> None:
    this = gate()
    async with this.admit(10, 1) as call:
        assert repr(this) == "<Gate: 1 of 4 calls open, 0 failures in a row>"
        await this.failed(call, ProviderBlocked("wrong key"), 0)
    assert repr(this) == "<Gate: 0 of 4 calls open, blocked: wrong key>"


class Line:
    """A SharedQuota that says what it is told to. `turns`: its next answers; `share`: while there are none."""

    def __init__(self, *turns: Turn | None) -> None:
        self.turns = list(turns)
        self.share = 1.0
        self.asked: list[tuple[float, Sequence[float], Sequence[float | None]]] = []
        self.corrected: list[tuple[str | None, Sequence[float]]] = []

    async def reserve(self, costs: Sequence[float], limits: Sequence[float | None]) -> Turn | None:
        self.asked.append((anyio.current_time(), costs, limits))
        turn = self.turns.pop(0)
        self.share = 1.0 if turn else 0.25
        return turn

    def correct(self, turn: Turn, differences: Sequence[float], limits: Sequence[float | None]) -> None:
        self.corrected.append((turn.noted, differences))


async def test_a_call_waits_for_its_turn_among_all_processes_and_tells_what_it_cost() -> None:
    line = Line(Turn(0.3), Turn(0.2), Turn(0.0, "here"))
    this = gate(Quota(requests_per_minute=600), shared=line)
    async with this.admit(50, 2) as call:
        assert anyio.current_time() == pytest.approx(0.5)
        this.answered(call, tokens=40, headers=None)
    assert [(round(at, 3), costs) for at, costs, _ in line.asked] == [(at, (1.0, 50, 2.0)) for at in (0.0, 0.3, 0.5)]
    assert line.asked[0][2] == (600, None, None)
    assert line.corrected == [("here", (0.0, -10, 0.0))]


async def test_with_nobody_to_ask_a_call_keeps_to_the_share_of_its_process() -> None:
    line = Line(*[None] * 200)
    this = gate(Quota(requests_per_minute=240), shared=line)
    while anyio.current_time() < 60:
        await succeed(this)
    assert 50 <= len(line.asked) <= 61


async def test_without_a_limit_nobody_is_asked() -> None:
    line = Line()
    await succeed(gate(Quota(), shared=line))
    assert line.asked == []


async def test_a_call_that_was_given_its_turn_does_not_go_into_a_pause() -> None:
    quota = Quota(requests_per_minute=600)

    class Slow(Line):
        async def reserve(self, costs: Sequence[float], limits: Sequence[float | None]) -> Turn | None:
            await anyio.sleep(1)
            return await super().reserve(costs, limits)

    this = gate(quota, shared=Slow(Turn(0.0, "here")))
    async with beside(lambda: succeed(this)) as done:
        await anyio.sleep(0.5)
        quota.pause(10.0)
    assert done == pytest.approx([10.0])
