"""Hurts a deployment at random for as long as it is told, and judges it: `make soak MINUTES=15 SEED=1`.

The schedule follows from the seed alone, so a bad run can be repeated.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from tests.faults.checker import Verdict
from tests.faults.scene import PER_CRASH, Member, Scene
from tests.support.proxy import Proxy
from tests.support.vendors.misbehaviour import HANG, NOTHING, RESET, Fault, refusal

SESSION = 6.0


@dataclass(frozen=True, slots=True)
class Step:
    """At so many seconds, this fault for so long, on that member. `repeats`: crashes that may repeat work."""

    at: float
    name: str
    seconds: float
    member: int


# Each fault: how often it is chosen, and how many windows of work in flight it may repeat.
WEIGHTS: Mapping[str, tuple[int, int]] = {
    "worker killed": (4, 1),
    "worker asleep": (1, 1),  # longer than its session: another takes over
    "worker restarted": (2, 0),
    "visitor comes and goes": (2, 0),
    "broker killed": (1, 2),
    "broker restarted": (1, 2),
    "connections cut": (2, 2),
    "connections silent": (1, 2),
    "connections slow": (1, 0),
    "provider down": (2, 0),
    "provider hangs": (1, 0),
    "provider limits": (1, 0),
    "provider resets": (1, 0),
    "cache deleted": (1, 0),
    "cache overwritten": (1, 0),
}


def schedule(seed: int, seconds: float, names: Sequence[str] = tuple(WEIGHTS)) -> list[Step]:
    """A fault every few seconds. The same for the same arguments."""
    rng = random.Random(seed)
    weights = [WEIGHTS[name][0] for name in names]
    steps: list[Step] = []
    now = rng.uniform(2, 5)
    while now < seconds:
        (name,) = rng.choices(names, weights)
        lasts = SESSION + 4 if name == "worker asleep" else rng.uniform(1, 8)
        steps.append(Step(round(now, 1), name, round(lasts, 1), rng.randrange(2)))
        now += lasts + rng.uniform(1, 6)
    return steps


class Tormentor:
    """Knows how each fault is done and undone."""

    def __init__(self, stage: Scene, proxy: Proxy | None, seed: int) -> None:
        self._stage = stage
        self._proxy = proxy
        self._rng = random.Random(seed)
        self._guest: Member | None = None

    async def __call__(self, step: Step) -> None:
        kind, _, detail = step.name.partition(" ")
        await getattr(self, f"_{kind}")(detail, step.seconds, self._stage.members[step.member])

    async def _worker(self, how: str, seconds: float, member: Member) -> None:
        if how == "asleep":
            member.signal(signal.SIGSTOP)
            await anyio.sleep(seconds)
            member.signal(signal.SIGCONT)
            return
        if how == "killed":
            await member.kill()
        else:
            await member.stop_orderly()
        member.start()

    async def _visitor(self, _: str, seconds: float, __: Member) -> None:
        if self._guest is None:
            self._guest = self._stage.add_member()
        self._guest.start()
        await anyio.sleep(seconds)
        await self._guest.stop_orderly()

    async def _broker(self, how: str, seconds: float, _: Member) -> None:
        broker = self._stage.broker
        await anyio.to_thread.run_sync(broker.kill if how == "killed" else broker.stop)
        await anyio.sleep(seconds)
        await anyio.to_thread.run_sync(broker.start)

    async def _connections(self, how: str, seconds: float, _: Member) -> None:
        proxy = self._proxy
        assert proxy is not None
        if how == "silent":
            proxy.down.drop()
        elif how == "slow":
            proxy.up.delay = proxy.down.delay = 0.3
        else:
            proxy.cut()
        await anyio.sleep(seconds)
        proxy.heal()

    async def _provider(self, how: str, seconds: float, _: Member) -> None:
        faults: dict[str, Fault] = {
            "down": refusal(503),
            "hangs": HANG,
            "limits": refusal(429, retry_after="1"),
            "resets": RESET,
        }
        self._stage.provider.always = faults[how]
        await anyio.sleep(seconds)
        self._stage.provider.always = NOTHING

    async def _cache(self, how: str, _: float, member: Member) -> None:
        if how == "overwritten":
            # It may not have been made again since it was deleted: then garbage is all there is.
            with member.cache.open("r+b" if member.cache.exists() else "wb") as file:
                file.write(self._rng.randbytes(50_000))
            return
        for path in member.cache.parent.glob(f"{member.cache.name}*"):
            path.unlink(missing_ok=True)


async def torment(
    stage: Scene, proxy: Proxy | None, seed: int, seconds: float, names: Sequence[str], rate: float
) -> Verdict:
    """Two workers and a steady load under the schedule; then everything heals and has to be finished."""
    steps = schedule(seed, seconds, names)
    tormentor = Tormentor(stage, proxy, seed)
    print("\n".join(f"  {step.at:7.1f} s  {step.name} ({step.seconds:g} s, worker {step.member})" for step in steps))
    await stage.start(2)
    started = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.watch)
        tasks.start_soon(partial(stage.produce, rate=rate, seed=seed))
        for step in steps:
            await anyio.sleep(max(0.0, started + step.at - time.monotonic()))
            print(
                f"{time.monotonic() - started:7.1f} s  {step.name}; {len(stage.ledger.attempted)} produced", flush=True
            )
            await tormentor(step)
            revive(stage)
        tasks.cancel_scope.cancel()
    healed = time.monotonic()
    revive(stage)
    await stage.all_committed()
    print(f"all done {time.monotonic() - healed:.1f} s after the last fault", flush=True)
    for member in stage.members:
        if member.is_running:
            await member.stop_orderly()
    verdict = await stage.verdict(0 if stage.is_exactly_once else explained(steps))
    measured(stage, verdict)
    return verdict


def measured(stage: Scene, verdict: Verdict) -> None:
    for number, member in enumerate(stage.members):
        print(f"worker {number}: at most {member.most_rss / 1e6:.0f} MB, {member.most_files} files")
        if member.most_rss > 500e6 or member.most_files > 150:
            verdict.problems.append(f"worker {number} grew: {member.most_rss} bytes, {member.most_files} files")


def revive(stage: Scene) -> None:
    """A worker may give up while it starts and finds no broker: whoever runs it starts it again. Never later."""
    for member in stage.members[:2]:
        process = member.process
        if process is None or process.process.poll() is None:
            continue
        log = process.stderr
        assert process.process.returncode == 3, f"worker ended with {process.process.returncode}:\n{log[-4000:]}"
        assert "worker started" not in log, f"worker gave up:\n{log[-4000:]}"
        member.start()


def explained(steps: Sequence[Step]) -> int:
    """Duplicates that at-least-once allows: a window of every partition for each crash."""
    return sum(WEIGHTS[step.name][1] for step in steps) * PER_CRASH
