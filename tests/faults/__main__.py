"""Long runs, judged at the end: `make soak` hurts at random, with `ARGS="--scenario kills"` in one way, counted.

Prints what it does, its figures and the verdict; exits with 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.faults.checker import Verdict
from tests.faults.scenarios import SCENARIOS, Plan
from tests.faults.scene import Scene, scene
from tests.faults.soak import WEIGHTS, torment
from tests.support.brokers import Broker
from tests.support.proxy import Proxy
from tests.support.session_broker import SharedBroker

Run = Callable[[Scene, Proxy | None], Awaitable[Verdict]]


async def on_stage(run: Run, guarantee: str, seed: int, hostile: float) -> Verdict:
    shared = SharedBroker(os.environ)
    broker = await anyio.to_thread.run_sync(shared.get)
    print(f"seed {seed}, {guarantee}, {broker.kind} broker, {hostile:.0%} hostile", flush=True)
    try:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            proxy: Proxy | None = None
            if broker.behind_proxy is not None:
                proxy = await stack.enter_async_context(Proxy(*broker.behind_proxy))
            making = scene(
                broker,
                partial(new_topic, broker),
                folder,
                proxy,
                hostile=hostile if broker.is_real else 0.0,
                delivery__guarantee=guarantee,
            )
            return await run(await stack.enter_async_context(making), proxy)
    finally:
        await anyio.to_thread.run_sync(shared.close)


async def new_topic(
    broker: Broker, stem: str = "topic", *, partitions: int = 1, configs: Mapping[str, str] | None = None
) -> str:
    name = f"{stem}-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    # For ever: others say that their records are of 1970, and those in a segment of their own would be gone in minutes.
    kept = {"retention.ms": "-1", **(configs or {})}
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=kept)])
    await admin.close()
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15, help="of faults at random; of each outage")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--guarantee", choices=["at-least-once", "exactly-once"], default="at-least-once")
    parser.add_argument("--fault", action="append", choices=list(WEIGHTS), help="only these; default: all")
    parser.add_argument("--rate", type=float, default=300, help="events per second")
    parser.add_argument("--hostile", type=float, default=0.05, help="share of the events as other people write them")
    parser.add_argument("--scenario", choices=list(SCENARIOS), help="instead of faults at random")
    parser.add_argument("--rounds", type=int, default=10, help="kills, restarts, comings and goings of a scenario")
    parser.add_argument("--events", type=int, default=10_000, help="in all, of the scenario 'kills'")
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that brokers are away is no news here

    async def run(stage: Scene, proxy: Proxy | None) -> Verdict:
        if given.scenario:
            plan = Plan(given.seed, given.minutes * 60, given.rounds, given.events, given.rate)
            return await SCENARIOS[given.scenario](stage, plan)
        can_hurt = stage.broker.can_restart
        names = [n for n in given.fault or WEIGHTS if can_hurt or not n.startswith(("broker", "connections"))]
        return await torment(stage, proxy, given.seed, given.minutes * 60, names, given.rate)

    verdict = anyio.run(on_stage, run, given.guarantee, given.seed, given.hostile)
    print(verdict)
    what = given.scenario or f"{given.minutes:g} minutes"
    print(f"{what}, seed {given.seed}, {given.guarantee}: {'BROKEN' if verdict.problems else 'CLEAN'}")
    sys.exit(bool(verdict.problems))


if __name__ == "__main__":
    main()
