"""An index in Milvus Lite: how fast it is filled, and verdicts and searches beside so many vectors.

    python -m tests.bench.milvus --vectors 100000,1000000 --minutes 30

Fills until there are so many vectors, or the minutes are over, and prints a JSON line for each of these numbers.
`recall`, with an index that may overlook some: the share of the nearest that it finds, of the first of these numbers.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from streamer.adapters.milvus.store import MilvusStore
from streamer.bench.vectors import like_texts
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Matrix, Space
from streamer.indexer.distant.index import DistantIndex
from streamer.indexer.distant.overlay import sourced_payload
from streamer.indexer.distant.reader import once
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from streamer.stores import StoredEvent

WRITTEN = 1_000  # events in a call while filling
BATCH = 64  # that the indexer judges at a time
ROUNDS = 5
ASKED, NEAREST = 50, 10  # searches whose answers are compared with all vectors, and how many of the nearest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", default="100000", help="measured at each of these numbers: 100000,1000000")
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--minutes", type=float, default=5.0, help="for filling, all together")
    parser.add_argument("--index-type", default="FLAT", choices=["FLAT", "HNSW"])
    parser.add_argument("--uri", help="of a server; default: a new file")
    options = parser.parse_args()
    space = Space(provider="bench", model="m", dimensions=options.dimensions)
    with tempfile.TemporaryDirectory() as folder:
        uri = options.uri or str(Path(folder) / "bench.db")
        store = MilvusStore(uri, space, {"topic": "bench"}, index_type=options.index_type, timeout=600.0)
        store.open()
        for point in measured(store, options):
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            point["disk_mb"] = sum(path.stat().st_size for path in files) >> 20
            print(orjson.dumps(point).decode(), flush=True)
        store.close()


def measured(store: MilvusStore, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    rng, dimensions = np.random.default_rng(1), options.dimensions
    spent, count, recall = 0.0, 0, 1.0
    held: list[Matrix] = []
    for wanted in sorted(int(number) for number in options.vectors.split(",")):
        begun, before = time.monotonic(), count
        while count < wanted and spent + time.monotonic() - begun < 60 * options.minutes:
            rows = like_texts(rng, WRITTEN, dimensions)
            store.upsert([stored(count + i, row) for i, row in enumerate(rows)])
            count += len(rows)
            if options.index_type != "FLAT" and not before:
                held.append(rows)
        filling = time.monotonic() - begun
        spent += filling
        if count == before:
            return
        settle()
        if held:
            recall = recalled(store, np.concatenate(held), like_texts(rng, ASKED, dimensions))
            held.clear()
        index = DistantIndex(dimensions, 1 << 40, store, once, nullcontext())
        judge = Judge(index, VerdictPolicy(), index.groups, sourced_payload)
        judge.hear_of(count)
        arrived = iter(range(count, 1 << 40))

        def arrive(size: int, judge: Judge = judge, index: DistantIndex = index, arrived: Any = arrived) -> None:
            judge.judge([event(next(arrived), row) for row in like_texts(rng, size, dimensions)])
            index.flush()

        def search(index: DistantIndex = index) -> None:
            index.search(like_texts(rng, 1, dimensions), 10)

        yield {
            "bench": "milvus",
            "index_type": options.index_type,
            "vectors": store.count(),
            "dimensions": dimensions,
            "filled_per_second": round((count - before) / filling),
            "verdicts_per_second": round(BATCH / seconds(lambda: arrive(BATCH)), 1),
            "verdict_of_one_ms": round(1000 * seconds(lambda: arrive(1)), 1),
            "search_ms": round(1000 * seconds(search), 1),
            "recall": recall,
            "rss_mb": psutil.Process().memory_info().rss >> 20,
            "machine": platform.machine(),
        }
        count = next(arrived)


def recalled(store: MilvusStore, rows: Matrix, queries: Matrix) -> float:
    """The share of the NEAREST of these rows that the store finds."""
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :NEAREST]
    found = store.search(queries, NEAREST)
    hits = [
        len({f"event-{place}" for place in places} & {each.event.id for each in some})
        for places, some in zip(best, found, strict=True)
    ]
    return round(sum(hits) / (NEAREST * len(queries)), 3)


def settle() -> None:
    """Until Milvus Lite has done in the background what the filling left to it, two minutes at most."""
    for _ in range(120):
        spent = time.process_time()
        time.sleep(1)
        if time.process_time() - spent < 0.1:
            return


def seconds(work: Callable[[], object]) -> float:
    """The median, after one that warms up."""
    work()
    times = []
    for _ in range(ROUNDS):
        begun = time.monotonic()
        work()
        times.append(time.monotonic() - begun)
    return statistics.median(times)


def stored(number: int, row: Any) -> StoredEvent:
    return StoredEvent(
        id=f"event-{number}",
        partition=0,
        offset=number,
        time=number,
        arrival=number,
        density=0.5,
        surprise=1.0,
        first=None,
        is_judged=True,
        sketch=bytes(120),
        vector=row,
    )


def event(number: int, row: Any) -> VectorEvent:
    return VectorEvent(id=f"event-{number}", vector=row, space="s", model="m", partition=0, offset=number)


if __name__ == "__main__":
    main()
