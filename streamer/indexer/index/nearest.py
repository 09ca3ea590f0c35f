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
_FOUND: Final = 1 << 19  # components at a time (2 MiB) of what was found: many long vectors are a lot of memory


def nearest(
    rows: VectorStorage,
    ring: Ring,
    queries: Matrix,
    sees: NDArray[np.int64],
    oldest: int,
    k: int,
    hidden: NDArray[np.int64],
    beside: Beside | None = None,
    described: int | None = None,
) -> list[list[Match]]:
    """The `k` most similar rows for each of the queries, which are in the coordinates of the rows: best first, ties in
    order of arrival.

    Query i sees the rows from position `oldest` up to position `sees[i]`, less those dead by then and the `hidden`.
    `described`: how many of the matches, best first, carry their payloads; None for all.
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
    return _matches(rows, ring, queries, best.positions, k if described is None else described)


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


def _matches(
    rows: VectorStorage, ring: Ring, queries: Matrix, positions: NDArray[np.int64], described: int
) -> list[list[Match]]:
    """Ids and similarities of positions (n, k), -1 for none; best first, ties in order of arrival.

    Summed once more in float64: a product's last bits depend on how many queries shared it.
    """
    count, k = positions.shape
    slots = positions % ring.slots
    exact = np.empty(positions.shape)
    group = max(1, _FOUND // (k * queries.shape[1]))
    for start in range(0, count, group):
        stop = min(start + group, count)
        found = rows.get(slots[start:stop].ravel()).reshape(stop - start, k, -1)
        for i, vectors in enumerate(found, start):
            exact[i] = vectors.astype(np.float64) @ queries[i].astype(np.float64)
    exact = np.where(positions < 0, -np.inf, exact.clip(-1, 1).round(6))
    order = np.lexsort((positions, -exact), axis=1)
    ranked = np.take_along_axis(slots, order, axis=1)
    columns = zip(
        ranked.tolist(),
        np.take_along_axis(exact, order, axis=1).tolist(),
        ring.payloads.notes[ranked].tolist(),
        (positions >= 0).sum(axis=1).tolist(),  # those that are none have come last
        strict=True,
    )
    names, payloads = ring.names, ring.payloads
    return [
        [
            Match(names[slot], similarity, payloads[slot] if rank < described else None, note)
            for rank, (slot, similarity, note) in enumerate(zip(of, similarities, notes, strict=True))
            if rank < known
        ]
        for of, similarities, notes, known in columns
    ]
