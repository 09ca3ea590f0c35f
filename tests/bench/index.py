"""What `streamer bench index` measures, with rivals beside it: `python -m tests.bench.index`, one JSON line.

Everything runs in one thread, in turns. The rivals are faiss and usearch, both exact.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import faiss  # noqa: E402  the number of threads is read at import
import orjson  # noqa: E402
from usearch.compiled import MetricKind  # noqa: E402
from usearch.index import search  # noqa: E402

from streamer.bench.index import K, measure_index  # noqa: E402
from streamer.bench.measuring import machine, peak  # noqa: E402
from streamer.bench.vectors import KINDS  # noqa: E402
from streamer.core.vectors import Matrix  # noqa: E402


def rivals(rows: Matrix) -> Callable[[Matrix], Mapping[str, Callable[[], Any]]]:
    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(rows)
    return lambda queries: {
        "faiss": lambda: flat.search(queries, K),
        "usearch": lambda: search(rows, queries, K, MetricKind.IP, exact=True, threads=1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--like", choices=KINDS, default="texts", help="what the vectors are like")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    here = machine()
    figures = measure_index(**vars(options), rivals=rivals)
    documents = [figure.document() for figure in figures]
    line = {"bench": "index", "parameters": vars(options), "runs": options.runs, "figures": documents}
    print(orjson.dumps(line | {"peak_rss_bytes": peak(), "machine": here}).decode())


if __name__ == "__main__":
    main()
