"""The index beside the products that no exact search can avoid: time of searches and verdicts, and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from streamer.bench.figures import Figure, Sample
from streamer.bench.measuring import in_turns, resident_after_collection
from streamer.bench.vectors import KINDS, Maker
from streamer.core.sketch import UNPACKED_BYTES, sketch, unpack
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Matrix, Vector
from streamer.indexer.event_index import EventIndex
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy

K = 5
ARRIVING = 64  # new events in a batch, as an indexer takes them
CHUNK = 1_000  # made at a time: what is left of more of them would count as memory of the index
OUTGROWN = 32 << 20  # bytes: smaller arrays that are left stay with malloc
POLLED = 500  # events that come at a time: what is made of them is gone before the next ones come
BATCHES = (1, 8, 64)  # queries in one search
# More contenders of a search, given the rows and the queries.
Rivals = Callable[[Matrix], Callable[[Matrix], Mapping[str, Callable[[], object]]]]


def measure_index(
    *, runs: int, vectors: int, dimensions: int, like: str, rounds: int = 7, rivals: Rivals | None = None
) -> list[Figure]:
    """`like`: what the vectors are like, see vectors.py. One thread. A run is the median of so many rounds."""
    make = KINDS[like]
    words = [unpack(sketch(f"text number {i} of the stream about thing {i % 97}")) for i in range(1000)]
    # Once, so that what a process needs only once is not counted as memory of the vectors.
    _judge(make, 2 * POLLED, dimensions, words)
    before = resident_after_collection()
    judge = _judge(make, vectors, dimensions, words)
    memory = Figure("memory of a vector", "B", "float32 matrix")
    took = Sample((resident_after_collection() - before) / vectors)
    memory.add(took, Sample(4.0 * dimensions))
    bounded = Figure("memory of a vector", "B", "what VectorIndex and LocalGroups promise")
    bounded.add(took, Sample(_promised(vectors, dimensions)))

    rows = np.concatenate([part for part, _ in _parts(make, vectors, dimensions)])
    compare = rivals(rows) if rivals else lambda _: {}
    queries = make(np.random.default_rng(3), max(BATCHES), dimensions)
    searches = {size: Figure(f"search, {size} at once", "ms", "float32 product") for size in BATCHES}
    others: dict[str, Figure] = {}
    verdicts = Figure(f"verdicts, {ARRIVING} events", "ms", "float32 product and maximum")
    arrived = iter(range(vectors, 1000 * vectors + 10**9))

    def arrive() -> None:
        judge.judge([_event(next(arrived), row, words[i]) for i, row in enumerate(queries)])

    arrive()  # what has to be learned first
    for _ in range(runs):
        for size, figure in searches.items():
            part = queries[:size]
            found = in_turns(_searches(judge.index, rows, part) | dict(compare(part)), rounds)
            own, bare = found.pop("ours"), found.pop("bare")
            figure.add(own, bare)
            for name, sample in found.items():
                label = f"search, {size} at once, {name}"
                others.setdefault(label, Figure(label, "ms", "float32 product")).add(sample, bare)
        found = in_turns({"bare": lambda: (queries @ rows.T).max(axis=1), "ours": arrive}, rounds)
        verdicts.add(found["ours"], found["bare"])
    return [*searches.values(), *others.values(), verdicts, memory, bounded]


def _searches(index: EventIndex, rows: Matrix, queries: Matrix) -> dict[str, Callable[[], object]]:
    single = queries[0]
    return {
        "bare": (lambda: rows @ single) if len(queries) == 1 else (lambda: queries @ rows.T),
        "ours": lambda: index.search(queries, K),
    }


def _judge(make: Maker, count: int, dimensions: int, words: Sequence[bytes | None]) -> Judge:
    """One that remembers so many events."""
    judge = Judge(VectorIndex(dimensions, count), VerdictPolicy())
    for part, first in _parts(make, count, dimensions):
        for start in range(0, len(part), POLLED):
            polled = enumerate(part[start : start + POLLED], first + start)
            judge.restore([_event(i, row, words[i % len(words)]) for i, row in polled])
    return judge


def _promised(vectors: int, dimensions: int) -> float:
    """Bytes of a vector with its id and its sketch, by the docstrings of VectorIndex and LocalGroups."""
    rows = vectors + max(64, vectors // 64)
    left = 45 + (UNPACKED_BYTES // 2 if rows <= OUTGROWN // (UNPACKED_BYTES // 2) else 0)
    return rows * (4 * dimensions + 8 + 60 + UNPACKED_BYTES + left) / vectors + 50 + len(f"event-{vectors}") + 54


def _parts(make: Maker, count: int, dimensions: int) -> Any:
    """The same rows each time, and the number of the first of them."""
    rng = np.random.default_rng(1)
    for first in range(0, count, CHUNK):
        yield make(rng, min(CHUNK, count - first), dimensions), first


def _event(number: int, vector: Vector, words: bytes | None) -> VectorEvent:
    return VectorEvent(id=f"event-{number}", vector=vector, space="s", model="m", sketch=words)
