"""The worker's own cost: events a second through a provider that costs nothing, beside a loop written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.bench.child import ask
from streamer.bench.figures import Figure, Sample
from streamer.bench.job import settings_of
from streamer.bench.topics import new_topic, publish_texts, topics
from streamer.worker.vector_messages import OutputFormat


async def measure_overhead(
    *,
    runs: int,
    events: int,
    dimensions: int,
    format: OutputFormat,
    partitions: int,
    where: Mapping[str, Any],
) -> list[Figure]:
    """The topic of texts is filled once; each run has a loop and a worker read it from its beginning."""
    settings = settings_of(where)
    throughput = Figure("events through the worker", "events/s", f"bare getmany and send loop, {format}")
    in_json = Figure("events through the worker", "events/s", "bare getmany and send loop, json")
    memory = Figure("memory at nine tenths of the events", "MB", "at one tenth")
    source = new_topic("texts")
    async with topics(settings, partitions, source):
        await publish_texts(settings, source, events)
        for _ in range(runs):
            loops = {name: await _run("passing_on", settings, partitions, source, where, name, dimensions, events)
                     for name in dict.fromkeys((format, "json"))}  # fmt: skip
            told = await _run("worker", settings, partitions, source, where, format, dimensions, events)
            own = Sample(*told["rate"])
            throughput.add(own, Sample(*loops[format]["rate"]))
            if format != "json":
                in_json.add(own, Sample(*loops["json"]["rate"]))
            if len(told["resident"]) > 1:
                memory.add(Sample(told["resident"][-1] / 1e6), Sample(told["resident"][0] / 1e6))
    return [figure for figure in (throughput, in_json, memory) if figure.samples]


async def _run(
    part: str,
    settings: Any,
    partitions: int,
    source: str,
    where: Mapping[str, Any],
    format: str,
    dimensions: int,
    events: int,
) -> Any:
    """One contender, into a topic of its own, which is gone afterwards."""
    target = new_topic("vectors")
    async with topics(settings, partitions, target):
        return await ask(
            part, where=where, topic=source, target=target, format=format, dimensions=dimensions, events=events
        )
