"""The rows nearest to each of several queries, among those that each may see.

Pure arithmetic on rows and their ring: it keeps nothing, and what it reads must not change meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix
from streamer.core.verdicts import Match
from streamer.indexer.index.blocks import Beside, VectorStorage
from streamer.indexer.index.ring import Ring
from streamer.indexer.index.top_k import Best

_SCORES: Final = 1 << 21  # scores at a time (8 MiB): with more calls, there is more waiting for the interpreter


def nearest(
    rows: VectorStorage,
    ring: Ring,
    queries: Matrix,
    sees: NDArray[np.int64],
    oldest: int,
    k: int,
    hidden: NDArray[np.int64],
    beside: Beside | None = None,
) -> list[list[Match]]:
    """The `k` most similar rows for each of the queries, which are in the coordinates of the rows: best first, ties in
    order of arrival.

    Query i sees the rows from position `oldest` up to position `sees[i]`, less those dead by then and the `hidden`.
    """
    best = Best(len(queries), k)
    for start, end in _pieces(oldest, int(sees[-1]), max(1, _SCORES // len(queries)), rows.step, ring.slots):
        slot = start % ring.slots
        scores, exact = rows.compare(queries, slot, slot + end - start, beside)
        dying, unseen_from = ring.dying(start, end)
        if dying.size:
            scores[:, dying] = np.where(unseen_from <= sees[:, None], -np.inf, scores[:, dying])
        if end > sees[0]:  # the batch itself: each member sees only those before it
            first = max(start, int(sees[0]))
            scores[:, first - start :][np.arange(first, end) >= sees[:, None]] = -np.inf
        scores[:, hidden[(hidden >= start) & (hidden < end)] - start] = -np.inf
        if exact is None:
            best.offer(scores, start)
        else:
            best.offer_bounds(scores, start, exact)
    return _matches(rows, ring, queries, best.positions)


def _pieces(start: int, stop: int, most: int, step: int, slots: int) -> Iterator[tuple[int, int]]:
    """Positions `start` to `stop` in order, in pieces that neither exceed `most` nor run over the ring's seam.

    They end at multiples of `step` wherever `most` has room for one.
    """
    step = most - most % step or most
    while start < stop:
        slot = start % slots
        end = min(stop, start + step - slot % step, start + slots - slot)
        yield start, end
        start = end


def _matches(rows: VectorStorage, ring: Ring, queries: Matrix, positions: NDArray[np.int64]) -> list[list[Match]]:
    """Ids and similarities of positions (n, k), -1 for none; best first, ties in order of arrival.

    Summed once more in float64: a product's last bits depend on how many queries shared it.
    """
    slots = positions % ring.slots
    exact = np.empty(positions.shape)
    for i, query in enumerate(queries):  # one by one: many long vectors of many queries are a lot of memory
        exact[i] = rows.get(slots[i]).astype(np.float64) @ query.astype(np.float64)
    exact = np.where(positions < 0, -np.inf, exact.clip(-1, 1).round(6))
    order = np.lexsort((positions, -exact), axis=1)
    notes = ring.payloads.notes[slots].tolist()
    return [
        [
            Match(ring.names[slots[i, j]], float(exact[i, j]), ring.payloads[slots[i, j]], notes[i][j])
            for j in ranks
            if positions[i, j] >= 0
        ]
        for i, ranks in enumerate(order.tolist())
    ]
