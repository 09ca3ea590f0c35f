"""One kind of fault at a time, so many times as told, with the figures that the promises are about."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import anyio
import anyio.to_thread
import psutil
from aiokafka.errors import KafkaError

from tests.faults.checker import Verdict
from tests.faults.scene import PER_CRASH, Member, Scene
from tests.faults.soak import measured
from tests.support.topics import end_offsets
from tests.support.vendors.misbehaviour import NOTHING, refusal

TICK = 2.0  # between a member that comes and one that goes
GUESTS = 4
MOST_GROWTH = 20e6  # bytes, of a steady worker between the first and the last third of a storm
RESUMES_WITHIN = 10.0  # seconds after the broker's return
LONGEST_TRANSACTION = 60.0  # that a worker asks the broker for


@dataclass(frozen=True, slots=True)
class Plan:
    """`seconds`: of each outage. `rounds`: how often; `events`: in all; `rate`: a second, where the load is steady."""

    seed: int
    seconds: float
    rounds: int
    events: int
    rate: float


async def kills(stage: Scene, plan: Plan) -> Verdict:
    """So many SIGKILLs while so many events pass through two workers, at random points of their way."""
    rng = random.Random(plan.seed)
    points = sorted(rng.sample(range(plan.events), plan.rounds))
    await stage.start(2)
    async with _watched(stage), anyio.create_task_group() as tasks:
        tasks.start_soon(partial(stage.produce, plan.events, seed=plan.seed))
        for number, point in enumerate(points, 1):
            await stage.reader.has_seen(point)
            victim = rng.choice(stage.members)
            await victim.kill()
            victim.start()
            if number % 10 == 0:
                print(f"{number} kills, {stage.reader.count} vectors seen", flush=True)
    verdict = await _judged(stage, plan.rounds)
    print(f"{plan.rounds} kills, {verdict.produced} events, {verdict.duplicates} duplicates, {verdict.seen} seen")
    return verdict


async def storm(stage: Scene, plan: Plan) -> Verdict:
    """Every two seconds a member comes, or one that has joined goes, beside one that stays: its memory, and the longest
    standstill."""
    await stage.start(1)
    steady = stage.members[0]
    assert steady.process is not None
    guests: deque[Member] = deque()
    places: list[Member] = []
    sizes: list[int] = []
    done = 0

    async def leave(guest: Member) -> None:
        await guest.stop_orderly()
        places.append(guest)

    async with _watched(stage), anyio.create_task_group() as leaving:
        async with anyio.create_task_group() as load:
            load.start_soon(partial(stage.produce, rate=plan.rate, seed=plan.seed))
            standstill = Standstill(stage)
            load.start_soon(standstill.watch)
            while done < plan.rounds:
                if guests and await guests[0].readiness() is None:
                    leaving.start_soon(leave, guests.popleft())
                    done += 1
                elif len(guests) < GUESTS:
                    guests.append(places.pop() if places else stage.add_member())
                    guests[-1].start()
                    done += 1
                sizes.append(steady.process.rss)
                await anyio.sleep(TICK)
            load.cancel_scope.cancel()
        for guest in guests:
            leaving.start_soon(leave, guest)
    rebalances = await steady.metric("streamer_worker_pipeline_rebalances_total")
    verdict = await _judged(stage, 0)
    print(
        f"{done} comings and goings within {len(sizes) * TICK:.0f} s, {rebalances:.0f} rebalances of the steady one, "
        f"longest standstill {standstill.longest:.1f} s"
    )
    print("memory of the steady worker in MB:", *(f"{size / 1e6:.0f}" for size in sizes))
    third = max(1, len(sizes) // 3)
    growth = median(sizes[-third:]) - median(sizes[:third])
    print(f"growth from the first to the last third: {growth / 1e6:.1f} MB")
    if growth > MOST_GROWTH:
        verdict.problems.append(f"the steady worker grew by {growth:.0f} bytes")
    return verdict


class Standstill:
    """The longest time in which no vector came."""

    def __init__(self, stage: Scene) -> None:
        self.longest = 0.0
        self._stage = stage

    async def watch(self) -> None:
        count, last = self._stage.reader.count, time.monotonic()
        while True:
            await anyio.sleep(0.1)
            self.longest = max(self.longest, time.monotonic() - last)
            if self._stage.reader.count > count:
                count, last = self._stage.reader.count, time.monotonic()


async def restarts(stage: Scene, plan: Plan) -> Verdict:
    """The broker goes, by a stop or a kill, and comes back; how long until there are vectors again."""
    rng = random.Random(plan.seed)
    await stage.start(2)
    pids = stage.pids
    delays: list[float] = []
    async with _watched(stage), anyio.create_task_group() as load:
        load.start_soon(partial(stage.produce, rate=plan.rate, seed=plan.seed))
        for number in range(plan.rounds):
            await stage.reader.has_seen(stage.reader.count + int(3 * plan.rate))
            how = rng.choice(["stop", "kill"])
            away = rng.uniform(0, 20)
            await anyio.to_thread.run_sync(getattr(stage.broker, how))
            await anyio.sleep(away)
            await anyio.to_thread.run_sync(stage.broker.start)
            delays.append(await resumed(stage))
            print(f"{number + 1}: {how}, away {away:.1f} s; vectors {delays[-1]:.1f} s after its return", flush=True)
        load.cancel_scope.cancel()
    assert stage.pids == pids, "the same processes all along"
    verdict = await _judged(stage, 2 * plan.rounds)
    print(f"resumed after {sorted(round(delay, 1) for delay in delays)} s, at most {max(delays):.1f} s")
    verdict.blame(f"not within {RESUMES_WITHIN:g} s", [delay for delay in delays if delay > RESUMES_WITHIN])
    return verdict


async def resumed(stage: Scene) -> float:
    """Seconds until the vectors' topic grows, as asked of the broker by clients that are made for it."""
    since = time.monotonic()
    first: int | None = None
    with anyio.fail_after(120):
        while True:
            with suppress(KafkaError, OSError, TimeoutError), anyio.fail_after(2):
                now = sum((await end_offsets(stage.broker.bootstrap_servers, stage.vectors)).values())
                if first is not None and now > first:
                    return time.monotonic() - since
                first = now if first is None else first
            await anyio.sleep(0.05)


async def outages(stage: Scene, plan: Plan) -> Verdict:
    """Broker and provider away for long, the cache deleted, overwritten and on a full disk, under one worker."""
    with small_disk(stage.folder, 64) as disk:
        member = stage.add_member(cache__path=disk / "cache.sqlite")
        member.start()
        assert member.process is not None
        await member.process.ready(member.port)
        pids = stage.pids
        async with _watched(stage), anyio.create_task_group() as load:
            load.start_soon(_tell_states, member)
            load.start_soon(partial(stage.produce, rate=plan.rate, seed=plan.seed))
            await stage.reader.has_seen(1000)
            await _broker_away(stage, plan.seconds)
            await _provider_away(stage, member, plan.seconds)
            await _cache_wrecked(stage, member)
            await _disk_full(stage, member, disk)
            load.cancel_scope.cancel()
        assert stage.pids == pids, "the same process all along"
        return await _judged(stage, 2)


async def _broker_away(stage: Scene, seconds: float) -> None:
    print(f"broker away for {seconds:g} s", flush=True)
    await anyio.to_thread.run_sync(stage.broker.kill)
    await anyio.sleep(seconds)
    await anyio.to_thread.run_sync(stage.broker.start)
    print(f"broker back: vectors after {await resumed(stage):.1f} s", flush=True)


async def _provider_away(stage: Scene, member: Member, seconds: float) -> None:
    print(f"provider away for {seconds:g} s", flush=True)
    stage.provider.always = refusal(503)
    asked = len(stage.provider.requests)
    await anyio.sleep(seconds)
    waiting = await member.metric("streamer_worker_pipeline_in_flight")
    print(f"{len(stage.provider.requests) - asked} requests meanwhile; {waiting:.0f} events in the worker", flush=True)
    stage.provider.always = NOTHING
    print(f"provider back: vectors after {await resumed(stage):.1f} s", flush=True)


async def _cache_wrecked(stage: Scene, member: Member) -> None:
    for how in ("deleted", "overwritten"):
        if how == "deleted":
            for path in member.cache.parent.glob(f"{member.cache.name}*"):
                path.unlink()
        else:
            member.cache.write_bytes(b"this is not a database, and never was" * 1000)
        print(f"cache {how}: vectors after {await resumed(stage):.1f} s", flush=True)
        await _cache_writes(member)


async def _grows(member: Member, name: str, timeout: float) -> None:
    before = await member.metric(name)
    with anyio.fail_after(timeout):
        while await member.metric(name) <= before:  # noqa: ASYNC110 - only asking tells
            await anyio.sleep(0.5)


async def _cache_writes(member: Member, timeout: float = 60.0) -> None:
    """Until the cache takes entries again: after a fault it is left alone for half a minute."""
    since = time.monotonic()
    await _grows(member, "streamer_worker_cache_file_stored_total", timeout)
    print(f"the cache stores again after {time.monotonic() - since:.1f} s", flush=True)


async def _disk_full(stage: Scene, member: Member, disk: Path) -> None:
    dropped = await member.metric("streamer_worker_cache_file_dropped_total")
    with full(disk, member):
        await _grows(member, "streamer_worker_cache_file_dropped_total", 120)
        print(f"disk full: vectors after {await resumed(stage):.1f} s", flush=True)
        await anyio.sleep(10)
    lost = await member.metric("streamer_worker_cache_file_dropped_total") - dropped
    print(f"{lost:.0f} entries that the cache could not take", flush=True)
    await _cache_writes(member)


@contextmanager
def full(disk: Path, member: Member) -> Iterator[None]:
    """The small disk full to the last byte; where we may mount none, the worker may write no file beyond 1 MB."""
    if os.path.ismount(disk):
        ballast = disk / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield
        ballast.unlink()
        return
    assert member.process is not None
    process = psutil.Process(member.process.process.pid)
    limits = process.rlimit(resource.RLIMIT_FSIZE)
    assert limits is not None
    process.rlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    yield
    process.rlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own, where we may mount one."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        print("no right to mount a small disk: a limit on the size of files instead")
        yield disk
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def _tell_states(member: Member) -> None:
    """What `/readyz` says, each time that it says something else; numbers in it do not count."""
    last = None
    started = time.monotonic()
    while True:
        said = await member.readiness()
        if said is None:
            lacking = await member.lacks()
            said = f"ready without {lacking}" if lacking else "ready"
        words = re.sub(r"\d+", "N", said)
        if words != last:
            print(f"  {time.monotonic() - started:6.1f} s  /readyz: {said}", flush=True)
            last = words
        await anyio.sleep(0.5)


async def asleep(stage: Scene, plan: Plan) -> Verdict:
    """A lone worker stopped for longer than the broker lets a transaction be open, and than its session."""
    await stage.start(1)
    (member,) = stage.members
    stage.provider.latency = lambda number: 0.3
    async with _watched(stage), anyio.create_task_group() as load:
        load.start_soon(partial(stage.produce, rate=plan.rate, seed=plan.seed))
        for _ in range(plan.rounds):
            await stage.reader.has_seen(stage.reader.count + int(3 * plan.rate))
            member.signal(signal.SIGSTOP)
            await anyio.sleep(LONGEST_TRANSACTION + 15)
            member.signal(signal.SIGCONT)
            print(f"awake: vectors after {await resumed(stage):.1f} s", flush=True)
        load.cancel_scope.cancel()
    verdict = await _judged(stage, plan.rounds)
    assert member.process is not None
    print(*{line for line in member.process.stderr.splitlines() if "transaction failed" in line}, sep="\n")
    return verdict


@asynccontextmanager
async def _watched(stage: Scene) -> AsyncIterator[None]:
    """Sampled and measured until all is committed."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.watch, 5.0)
        try:
            yield
        except BaseException:
            with anyio.CancelScope(shield=True):
                print(await stage.evidence())
            raise
        healed = time.monotonic()
        await stage.all_committed(180)
        print(f"all done {time.monotonic() - healed:.1f} s after the last fault", flush=True)
        tasks.cancel_scope.cancel()


async def _judged(stage: Scene, crashes: int) -> Verdict:
    """`crashes`: of worker or network, each of which may repeat what was in flight."""
    for member in stage.members:
        if member.is_running:
            await member.stop_orderly()
    verdict = await stage.verdict(0 if stage.is_exactly_once else crashes * PER_CRASH)
    measured(stage, verdict)
    return verdict


SCENARIOS: Mapping[str, Callable[[Scene, Plan], Awaitable[Verdict]]] = {
    "kills": kills,
    "storm": storm,
    "restarts": restarts,
    "outages": outages,
    "asleep": asleep,
}
