"""Which points a bench is measured at, and what a measured point says."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamer.bench.figures import Figure

NAMES: Final = ("overhead", "latency", "restore", "cache", "index", "local")
ON_A_BROKER: Final = ("overhead", "latency", "restore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user chose. Each value of a sequence is a point of its own; None: what a bench has by itself."""

    runs: int = 5
    dimensions: int = 384
    formats: Sequence[str] | None = None
    partitions: Sequence[int] = (4,)
    vectors: Sequence[int] | None = None
    entries: Sequence[int] = (100_000,)
    tokens: Sequence[int] = (60,)
    events: int | None = None
    texts: int = 256
    seconds: float = 5.0
    provider_ms: float = 20.0
    like: str = "texts"
    folder: str | None = None


def points(bench: str, wanted: Wanted) -> list[dict[str, Any]]:
    """The arguments of `bench` at each of its points, without those that say where the broker and the settings are."""
    runs, dimensions = {"runs": wanted.runs}, {"dimensions": wanted.dimensions}
    if bench == "overhead":
        return [
            runs | dimensions | {"events": wanted.events or 30_000, "format": format, "partitions": partitions}
            for format in wanted.formats or ("json", "binary")
            for partitions in wanted.partitions
        ]
    if bench == "latency":
        load = {"events": wanted.events or 20_000, "seconds": wanted.seconds, "provider_ms": wanted.provider_ms}
        return [
            runs | dimensions | load | {"format": format, "partitions": partitions}
            for format in wanted.formats or ("json",)
            for partitions in wanted.partitions
        ]
    if bench == "restore":
        return [
            runs | dimensions | {"vectors": vectors, "format": format, "partitions": partitions}
            for format in wanted.formats or ("binary",)
            for partitions in wanted.partitions
            for vectors in wanted.vectors or (30_000,)
        ]
    if bench == "cache":
        return [runs | dimensions | {"entries": entries, "folder": wanted.folder} for entries in wanted.entries]
    if bench == "index":
        return [
            runs | dimensions | {"vectors": vectors, "like": wanted.like} for vectors in wanted.vectors or (100_000,)
        ]
    if bench == "local":
        return [runs | {"texts": wanted.texts, "tokens": tokens} for tokens in wanted.tokens]
    raise ValueError(f"{bench!r} is none of {', '.join(NAMES)}")


async def measure(*, bench: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one point, in this process; what docs/schemas/bench-line.schema.json says."""
    from streamer.bench.measuring import machine, peak

    here = machine()  # before: the load is that of the others
    began = time.perf_counter()
    measured: Any = _bench(bench)(**arguments)
    figures: list[Figure] = await measured if inspect.isawaitable(measured) else measured
    shown = {name: value for name, value in arguments.items() if name not in ("where", "runs", "folder")}
    return {
        "bench": bench,
        "parameters": shown,
        "runs": arguments["runs"],
        "figures": [figure.document() for figure in figures],
        "peak_rss_bytes": peak(),
        "seconds": round(time.perf_counter() - began, 1),
        "machine": here,
    }


def _bench(name: str) -> Callable[..., list[Figure] | Awaitable[list[Figure]]]:
    # Imported one by one: a process that measures memory holds nothing else.
    if name == "overhead":
        from streamer.bench.overhead import measure_overhead

        return measure_overhead
    if name == "latency":
        from streamer.bench.latency import measure_latency

        return measure_latency
    if name == "restore":
        from streamer.bench.restore import measure_restore

        return measure_restore
    if name == "cache":
        from streamer.bench.cache import measure_cache

        return measure_cache
    if name == "index":
        from streamer.bench.index import measure_index

        return measure_index
    from streamer.bench.local import measure_local

    return measure_local
