"""What a worker's way to a service makes of it: `python -m tests.bench.provider`, one JSON line for each part.

A fake OpenAI answers with a log-normal latency: half of the answers within 150 ms, one in twenty later than 340.
`unlimited`: texts a second, beside what so many requests at once could have in the mean of those times. `limited`: the
service counts tokens in a sliding minute, the strictest way; the tokens that were used, beside the limit, and how many
requests were refused.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from unittest.mock import patch

import anyio
import orjson

from streamer.app.embedder import open_embedding
from streamer.bench.figures import Figure, Sample
from streamer.bench.measuring import machine, peak
from streamer.settings import Settings
from tests.support.vendors.limits import Limits
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.vectors import vector_for

MEDIAN, SIGMA = 0.15, 0.5  # seconds, and of their logarithm
BATCH = 512  # texts of a micro-batch
BATCHES = 8  # under way
DISTINCT = 2 * BATCH * BATCHES  # texts, whose vectors the fake keeps: making them takes more than all that is measured
AT_ONCE = 8  # requests
WARM = 10.0  # seconds
NO_LIMITS = {"requests_per_minute": 10**6, "tokens_per_minute": 10**9}
TOKENS_A_MINUTE = 200_000
TEXT = "a text of a stream, number {}, about as long as those of messages that people write to each other in a day"


def latencies(seed: int) -> Callable[[int], float]:
    rng = random.Random(seed)
    return lambda number: rng.lognormvariate(math.log(MEDIAN), SIGMA)


def settings_for(service: FakeOpenAI, **provider: Any) -> Settings:
    wanted = {"name": "openai", "dimensions": 256, "base_url": service.base_url, "api_key": "sk-test",
              "max_concurrent_requests": AT_ONCE, "max_items": BATCH}  # fmt: skip
    return Settings.model_validate({"provider": wanted | provider, "cache": {"enabled": False}})


async def embed_for(settings: Settings, seconds: float) -> tuple[int, float]:
    """Texts that were embedded, and seconds that it took."""
    done = 0
    began = time.perf_counter()

    async def batches(first: int) -> None:
        nonlocal done
        number = first
        while time.perf_counter() - began < seconds:
            texts = [TEXT.format(n) for n in range(number, number + BATCH)]
            number = (number + BATCH * BATCHES) % DISTINCT
            done += len(await stack.dispatcher.embed(texts, "document"))

    async with open_embedding(settings) as stack, anyio.create_task_group() as tasks:
        for place in range(BATCHES):
            tasks.start_soon(batches, place * BATCH)
    return done, time.perf_counter() - began


async def unlimited(runs: int, seconds: float) -> list[Figure]:
    figure = Figure("texts through the service", "texts/s", f"{AT_ONCE} such requests at once")
    for run in range(runs):
        async with FakeOpenAI(key="sk-test") as service:
            service.latency = latencies(run)
            await embed_for(settings_for(service, **NO_LIMITS), WARM)  # the fake makes its vectors
            service.requests.clear()
            service.latency = latencies(run)
            cpu = time.process_time()
            done, took = await embed_for(settings_for(service, **NO_LIMITS), seconds)
            drawn = latencies(run)
            mean = statistics.mean(drawn(n) for n in range(len(service.requests)))
            spent = 1e6 * (time.process_time() - cpu) / done
            figure.add(Sample(done / took, spent), Sample(AT_ONCE * done / len(service.requests) / mean))
    return [figure]


async def limited(runs: int, minutes: float) -> list[Figure]:
    used = Figure("tokens in a minute", "tokens/min", "the limit")
    refused = Figure("refused requests", "requests")
    for run in range(runs):
        async with FakeOpenAI(key="sk-test", limits=Limits(tokens=TOKENS_A_MINUTE)) as service:
            service.latency = latencies(run)
            _, took = await embed_for(settings_for(service, tokens_per_minute=TOKENS_A_MINUTE), 60 * minutes)
            used.add(Sample(60 * service.billed_tokens / took), Sample(TOKENS_A_MINUTE))
            refused.add(Sample(service.statuses.count(429)))
    return [used, refused]


async def main(options: argparse.Namespace) -> None:
    for name in options.parts:
        here = machine()
        if name == "unlimited":
            figures = await unlimited(options.runs, options.seconds)
        else:
            figures = await limited(options.runs, options.minutes)
        documents = [figure.document() for figure in figures]
        line = {"bench": "provider", "parameters": {"part": name}, "runs": options.runs, "figures": documents}
        print(orjson.dumps(line | {"peak_rss_bytes": peak(), "machine": here}).decode(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of an unlimited run")
    parser.add_argument("--minutes", type=float, default=2.0, help="of a limited run")
    parser.add_argument("--parts", nargs="*", default=["unlimited", "limited"], choices=("unlimited", "limited"))
    with patch("tests.support.vendors.openai.vector_for", cache(vector_for)):
        anyio.run(main, parser.parse_args(), backend_options={"use_uvloop": True})
