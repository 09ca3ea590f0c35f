"""SIGTERM at random moments of a life: starting, joining, restoring, at work, and with what is outside away."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from pathlib import Path

import anyio
import httpx

from tests.support.lateness import timed
from tests.support.processes import streamer
from tests.support.stages import Stage

START_STOPS_WITHIN = 2.5  # seconds: 2, and the time in which we are told
STOPS_WITHIN = 5.5
LONGEST_DRAIN = 18.0


Stop = tuple[str, float, float]


async def stopped(command: str, settings: Mapping[str, object], moment: float, signs: str | None = None) -> float:
    """Seconds that a process takes to end after SIGTERM, sent `moment` seconds after its log says `signs`."""
    with streamer(command, settings) as process:
        with anyio.fail_after(60):
            while signs is not None and signs not in process.stderr:
                assert process.process.poll() is None, process.stderr
                await anyio.sleep(0.02)
        await anyio.sleep(moment)
        async with timed() as took:
            process.send_signal(signal.SIGTERM)
            code = await process.wait(60)
        assert code in (0, -signal.SIGTERM), f"exit code {code}:\n{process.stderr}"
        assert "Traceback" not in process.stderr, process.stderr
        return took.seconds


async def twenty(stage: Stage, silence: str, folder: Path, rounds: int = 20, seed: int = 0) -> list[Stop]:
    """(what it was doing, seconds that it took, seconds that were allowed) of so many stops. `silence`: an address that
    takes connections and never answers."""
    rng = random.Random(seed)
    texts = [(f"k{number}".encode(), f"text {number}".encode()) for number in range(2_000)]
    with streamer("run", stage.settings) as worker:  # vectors for indexers to restore
        await worker.ready(stage.port)
        await stage.produce(texts)
        await until_embedded(stage.port, len(texts))
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0, worker.stderr
    done: list[tuple[str, float, float]] = []
    for number in range(rounds):
        command = rng.choice(["run", "index"])
        fault = rng.choice(["none", "none", "no broker", "no provider"])
        changes: dict[str, object] = {"cache.path": folder / f"cache-{number}.sqlite"}
        if fault == "no broker":
            changes |= {"kafka.bootstrap_servers": silence, "kafka.connect_timeout_ms": 60_000}
        if fault == "no provider":
            changes |= {"provider.name": "ollama", "provider.base_url": "http://127.0.0.1:1"}
            changes |= {"provider.model": "nomic-embed-text", "topics.vectors": f"{stage.vectors}"}
        if command == "run":
            await stage.produce(texts)  # something to do
        moment = rng.uniform(0.0, 6.0)
        took = await stopped(command, stage.settings | changes, moment)
        is_work = fault == "no provider" and command == "run"
        done.append(
            (f"{command} after {moment:.1f} s, {fault}", took, STOPS_WITHIN + (LONGEST_DRAIN if is_work else 0))
        )
        print(f"{done[-1][0]}: {took:.2f} s", flush=True)
    return done


async def until_embedded(port: int, count: int) -> None:
    async with httpx.AsyncClient() as client:
        with anyio.fail_after(120):
            while True:
                lines = (await client.get(f"http://127.0.0.1:{port}/metrics")).text.splitlines()
                found = [line for line in lines if line.startswith("streamer_worker_pipeline_embedded_total ")]
                if found and float(found[0].split()[1]) >= count:
                    return
                await anyio.sleep(0.1)
