"""How fast the index is, beside bare products and other exact indexes: `python -m tests.bench.index`, one JSON line.

Everything runs in one thread, in turns, and reports its median. The bare product is what no exact search can avoid.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import faiss  # noqa: E402  the number of threads is read at import
import numpy as np  # noqa: E402
import orjson  # noqa: E402
import psutil  # noqa: E402
from usearch.compiled import MetricKind  # noqa: E402
from usearch.index import search  # noqa: E402

from streamer.core.sketch import UNPACKED_BYTES, sketch, unpack  # noqa: E402
from streamer.core.vector_events import VectorEvent  # noqa: E402
from streamer.core.vectors import Matrix  # noqa: E402
from streamer.indexer.index.vector_index import VectorIndex  # noqa: E402
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy  # noqa: E402
from tests.support.vectors import KINDS, Maker  # noqa: E402

K = 5
POLLED = 500  # events that come at a time: what is made of them is gone before the next ones come
Timed = Mapping[str, Callable[[], Any]]


def units(make: Maker, count: int, dimensions: int, seed: int) -> Matrix:
    rng = np.random.default_rng(seed)
    rows = np.empty((count, dimensions), np.float32)
    for start in range(0, count, 10_000):
        rows[start : start + 10_000] = make(rng, min(10_000, count - start), dimensions)
    return rows


def in_turns(contenders: Timed, rounds: int) -> dict[str, float]:
    """Median milliseconds of each; in turns, so that a busy moment of the machine hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: round(float(np.median(values)) * 1000, 3) for name, values in times.items()}


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--like", choices=KINDS, default="texts", help="what the vectors are like")
    options = parser.parse_args()
    make = KINDS[options.like]
    count, dimensions = options.vectors, options.dimensions
    faiss.omp_set_num_threads(1)

    rows = units(make, count, dimensions, 1)
    before = resident()
    index = VectorIndex(dimensions, count)
    for start in range(0, count, POLLED):
        part = rows[start : start + POLLED]
        index.insert([f"event-{i}" for i in range(start, start + len(part))], part)
    memory = (resident() - before) / count

    judge = Judge(VectorIndex(dimensions, count), VerdictPolicy())
    word = [unpack(sketch(f"text number {i} of the stream about thing {i % 97}")) for i in range(1000)]
    before = resident()
    for start in range(0, count, POLLED):
        part = rows[start : start + POLLED]
        judge.restore([_event(i, row, word[i % 1000]) for i, row in enumerate(part, start)])
    remembered = (resident() - before) / count
    judge.judge([_event(-i, row, word[i]) for i, row in enumerate(units(make, 1000, dimensions, 2))])

    flat = faiss.IndexFlatIP(dimensions)
    flat.add(rows)
    queries = units(make, 64, dimensions, 3)
    arrived = iter(range(count, 10 * count))

    def observe() -> None:
        index.observe([f"event-{next(arrived)}" for _ in range(64)], queries, K)

    def verdicts() -> None:
        judge.judge([_event(next(arrived), row, word[i]) for i, row in enumerate(queries)])

    results: dict[str, Any] = {
        "vectors": count,
        "like": options.like,
        "dimensions": dimensions,
        "bytes_per_vector": {
            "matrix": 4 * dimensions,
            "index": round(memory),
            "judge_with_sketches": round(remembered),
        },
        "memory_of_vectors": {
            "index": round(memory / (4 * dimensions), 3),
            "judge_with_sketches": round(remembered / (4 * dimensions), 3),
            "judge_less_sketches": round((remembered - UNPACKED_BYTES) / (4 * dimensions), 3),
        },
        "insert_64_ms": in_turns(
            {
                "bare product and maximum": lambda: (queries @ rows.T).max(axis=1),
                "observe": observe,
                "verdicts": verdicts,
            },
            options.rounds,
        ),
    }
    for batch in (1, 8, 64):
        contenders = searches(index, flat, rows, queries[:batch])
        results[f"search_{batch}_ms"] = in_turns(contenders, options.rounds)
    print(orjson.dumps(results).decode())


def searches(index: VectorIndex, flat: Any, rows: Matrix, queries: Matrix) -> Timed:
    return {
        "bare product": (lambda: rows @ queries[0]) if len(queries) == 1 else (lambda: queries @ rows.T),
        "ours": lambda: index.search(queries, K),
        "faiss": lambda: flat.search(queries, K),
        "usearch": lambda: search(rows, queries, K, MetricKind.IP, exact=True, threads=1),
    }


def _event(number: int, vector: Any, sketch: bytes | None) -> VectorEvent:
    return VectorEvent(id=f"event-{number}", vector=vector, space="s", model="m", sketch=sketch)


if __name__ == "__main__":
    main()
