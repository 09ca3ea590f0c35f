"""One limit for all workers: kept, used up, and shared fairly, by a server's script on a virtual clock."""

# ruff: noqa: ASYNC110 - a server tells nobody what happens to it

from __future__ import annotations

import heapq
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.adapters.redis.link import RedisLink
from streamer.adapters.redis.quota import CORRECT, LONGEST_LOOK_SECONDS, RATES, RESERVE, SAFE_SHARE, RedisQuota
from streamer.adapters.redis.workers import Workers
from streamer.embedding.dispatcher import Dispatcher
from streamer.embedding.quota import Quota
from streamer.protocols import Turn
from tests.embedding.limited_server import LimitedServer, load
from tests.embedding.providers import contract
from tests.support.redis_server import RedisServer, redis_server
from tests.support.virtual_time import VirtualTimeLoop

Costs: TypeAlias = tuple[float, float, float]

EPOCH = 1_000_000.0
WINDOW = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@dataclass
class Script:
    """The script at the server, asked at times of ours."""

    server: RedisServer

    def __post_init__(self) -> None:
        self.server.client.flushall()
        self._sha = self.server.client.script_load(RESERVE)

    def __call__(self, who: int, now: float, costs: Sequence[float], limits: Sequence[float | None]) -> Turn:
        known = [limit or 0 for limit in limits]
        answer: Any = self.server.client.evalsha(self._sha, 1, RATES, who, EPOCH + now, WINDOW, *costs, *known)
        is_taken, wait, noted = answer
        if is_taken:
            return Turn(0.0, noted.decode())
        return Turn(min(max(float(wait), 0.005), LONGEST_LOOK_SECONDS))


def simulated(
    script: Script,
    limits: Sequence[float | None],
    cost_of: Callable[[int, random.Random], Costs],
    *,
    workers: int,
    until: float,
    seed: int = 0,
    gone: tuple[int, float] = (-1, 0.0),
) -> list[tuple[float, int, Costs]]:
    """Every call that went out: when, whose, its costs. All workers always have work; `gone`: who dies, and when."""
    rng = random.Random(seed)
    wanted = {worker: cost_of(worker, rng) for worker in range(workers)}
    turns = [(rng.random() * 0.01, worker) for worker in range(workers)]
    heapq.heapify(turns)
    taken: list[tuple[float, int, Costs]] = []
    while True:
        now, worker = heapq.heappop(turns)
        if now > until:
            return taken
        if worker == gone[0] and now > gone[1]:
            continue
        turn = script(worker, now, wanted[worker], limits)
        if turn.wait == 0.0:
            taken.append((now, worker, wanted[worker]))
            wanted[worker] = cost_of(worker, rng)
        heapq.heappush(turns, (now + turn.wait + rng.random() * 0.003, worker))


def most_in_a_window(taken: Sequence[tuple[float, int, Costs]], part: int) -> float:
    worst = used = 0.0
    oldest = 0
    for now, _, costs in taken:
        used += costs[part]
        while taken[oldest][0] <= now - WINDOW:
            used -= taken[oldest][2][part]
            oldest += 1
        worst = max(worst, used)
    return worst


def used_between(taken: Sequence[tuple[float, int, Costs]], part: int, start: float, end: float) -> float:
    """A minute."""
    return sum(costs[part] for now, _, costs in taken if start <= now < end) * WINDOW / (end - start)


@pytest.mark.slow
def test_four_workers_use_one_limit_up_in_equal_parts_also_when_one_dies(server: RedisServer) -> None:
    taken = simulated(Script(server), (600, None, None), lambda *_: (1, 100, 1), workers=4, until=120, gone=(2, 70.0))
    assert most_in_a_window(taken, 0) <= 600
    for start, end in ((0, 70), (70, 120), (70, 80)):
        assert used_between(taken, 0, start, end) >= 0.95 * 600
    early = [sum(who == worker for now, who, _ in taken if now < 70) for worker in range(4)]
    late = [sum(who == worker for now, who, _ in taken if now > 72) for worker in (0, 1, 3)]
    assert max(early) - min(early) <= 0.05 * sum(early)
    assert max(late) - min(late) <= 0.05 * sum(late)


def test_large_calls_are_not_starved_by_the_small_ones_of_others(server: RedisServer) -> None:
    def cost_of(worker: int, _: random.Random) -> Costs:
        return (1, 2000 if worker == 0 else 50, 1)

    taken = simulated(Script(server), (None, 20_000, None), cost_of, workers=4, until=90)
    assert most_in_a_window(taken, 1) <= 20_000
    counts = [sum(who == worker for _, who, _ in taken) for worker in range(4)]
    assert min(counts) >= 0.7 * max(counts)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.none(), st.integers(20, 200)),
    st.one_of(st.none(), st.integers(2_000, 20_000)),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_no_window_holds_more_than_a_limit(
    server: RedisServer, requests: int | None, tokens: int | None, workers: int, seed: int
) -> None:
    limits = (requests or (None if tokens else 60), tokens, None)

    def cost_of(_: int, rng: random.Random) -> Costs:
        return (1, rng.randint(1, (tokens or 1000) // 64), 1)

    taken = simulated(Script(server), limits, cost_of, workers=workers, until=130, seed=seed)
    uses = []
    for part, limit in enumerate(limits):
        if limit:
            assert most_in_a_window(taken, part) <= limit
            uses.append(used_between(taken, part, 0, 120) / limit)
    assert max(uses) >= 0.94


def test_what_a_call_cost_more_or_less_counts(server: RedisServer) -> None:
    script, limits = Script(server), (None, 600, None)
    first = script(0, 0.0, (1, 300, 1), limits)
    assert first.noted
    assert script(0, 1.0, (1, 300, 1), limits).wait > 0

    def correct(difference: float) -> int:
        found: int = server.client.eval(CORRECT, 1, RATES, first.noted, WINDOW, 0, difference, 0, 0, 600, 0)
        return found

    assert correct(-290.0) == 1
    assert script(0, 1.0, (1, 300, 1), limits).wait == 0.0
    assert script(0, 31.0, (1, 300, 1), limits).wait > 0  # 10 + 300 + 300 is too much for the minute
    assert correct(-10.0) == 1
    assert script(0, 31.0, (1, 300, 1), limits).wait == 0.0
    assert script(0, 200.0, (1, 10, 1), limits).wait == 0.0
    assert correct(5.0) == 0  # too long ago


class Link:
    """The way to the server on the loop's clock: commands find the time in place of the server's. `is_away`: none."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.is_away = False

    async def write(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return None if self.is_away else await work(self)

    async def do(self, name: str, script: str, keys: int, *arguments: Any) -> Any:
        given = list(arguments)
        if script == RESERVE:
            given[2] = EPOCH + anyio.current_time()
        return self._server.client.execute_command(name, script, keys, *given)


class Four:
    """As Workers."""

    count = 4

    def __init__(self, number: int) -> None:
        self.token = str(number)


@pytest.mark.slow
def test_four_workers_at_one_account_are_refused_nothing_with_the_store_and_without(server: RedisServer) -> None:
    """600 requests a minute; one of four dies, and later the store is away for a minute."""
    vendor = LimitedServer(requests=600)
    server.client.flushall()
    link: Any = Link(server)

    async def work(worker: int, until: float) -> None:
        quota, me = Quota(requests_per_minute=600), cast("Workers", Four(worker))
        terms = contract(max_request_tokens=300_000)
        async with RedisQuota.open(link, "openai", me) as shared:
            service = Dispatcher(vendor, terms, limits=quota, concurrency=8, shared=shared)
            await load(service, until, workers=4, texts_a_batch=1, length=100)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for worker in range(4):
                tasks.start_soon(work, worker, 60.0 if worker == 3 else 220.0)
            await anyio.sleep(100)
            link.is_away = True
            await anyio.sleep(45)
            link.is_away = False

    anyio.run(main, backend_options={"loop_factory": VirtualTimeLoop})
    assert vendor.refused == []
    assert vendor.share(0, 60) >= 0.95
    assert vendor.share(60, 100) >= 0.95
    assert 0.9 * SAFE_SHARE * 0.75 <= vendor.share(130, 145) <= SAFE_SHARE * 0.75 + 0.01  # three workers of four known
    assert vendor.share(160, 220) >= 0.95


@pytest.mark.anyio
async def test_workers_know_how_many_they_are_and_keep_to_their_share_while_the_server_is_away(tmp_path: Path) -> None:
    limits = (600.0, None, None)
    with redis_server(tmp_path) as server:
        async with RedisLink.open(server.url, retry_seconds=0.02) as link:
            async with (
                Workers.open(link, "openai") as first,
                Workers.open(link, "openai") as second,
                Workers.open(link, "another"),
                RedisQuota.open(link, "openai", second) as quota,
            ):
                assert (first.count, second.count) == (1, 2)
                await first._beat()
                assert first.count == 2
                turn = await quota.reserve((1, 10, 1), limits)
                assert turn
                assert turn.wait == 0.0
                quota.correct(turn, (0.0, -3.0, 0.0), limits)
                assert quota.share == 1.0
                server.kill()
                assert await quota.reserve((1, 10, 1), limits) is None
                assert quota.share == SAFE_SHARE / 2
                server.start()
                with anyio.fail_after(20):
                    while await quota.reserve((1, 10, 1), limits) is None:
                        await anyio.sleep(0.01)
                assert quota.share == 1.0
                await first._beat()
                assert first.count == 1  # the other one has not said anything to the new server
                await second._beat()
            async with Workers.open(link, "openai") as last:
                assert last.count == 1  # who ends is not counted


@pytest.mark.anyio
async def test_a_worker_that_is_silent_is_not_counted(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        RedisLink.open(server.url) as link,
        Workers.open(link, "silent") as first,
        Workers.open(link, "silent") as second,
    ):
        assert second.count == 2
        monkeypatch.setattr("streamer.adapters.redis.workers.SILENCE_SECONDS", 0.2)
        with anyio.fail_after(20):
            while first.count != 1:
                await anyio.sleep(0.05)
                await first._beat()
