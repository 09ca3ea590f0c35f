"""Searches from outside, while events are being judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
from anyio import Lock, current_time
from anyio.to_thread import run_sync

from streamer.core.vectors import Matrix, Vector
from streamer.core.verdicts import Match
from streamer.errors import StreamerError
from streamer.indexer.event_index import SearchableEvents
from streamer.indexer.index.payloads import Payload, Scalar
from streamer.telemetry.histogram import STEP_SECONDS, Histogram


@dataclass(slots=True, eq=False)
class _Query:
    """A search that waits for its turn."""

    vector: Vector
    k: int
    exclude: Collection[str]
    where: Mapping[str, Scalar] | None
    found: list[Match] | None = None
    error: Exception | None = None


class Searches:
    """The first caller searches for all that wait, in one product and in a thread.

    `index`: the one to be asked at the moment; what it raises, all that waited raise. `changing`: held by whoever
    changes it, and by us. `seconds`: how long searches took, in seconds.
    """

    def __init__(self, index: Callable[[], SearchableEvents], changing: AbstractContextManager[object]) -> None:
        self.total = 0
        self.seconds = Histogram(STEP_SECONDS)
        self._index = index
        self._changing = changing
        self._waiting: list[_Query] = []
        self._turn = Lock()

    async def search(
        self,
        vector: Vector,
        k: int,
        min_similarity: float | None,
        exclude: Collection[str],
        where: Mapping[str, Scalar] | None,
    ) -> Sequence[Match]:
        self.total += 1
        begun = current_time()
        query = _Query(vector, k, exclude, where)
        self._waiting.append(query)
        async with self._turn:
            if query.found is None and query.error is None:  # nobody who waited before has searched for all
                queries, self._waiting = self._waiting, []
                queries = queries if query in queries else [query, *queries]
                try:
                    await run_sync(self._find, queries)
                except StreamerError as exc:
                    for each in queries:
                        each.error = exc
        if query.error is not None:
            raise query.error
        self.seconds.observe(current_time() - begun)
        found = query.found or []
        return [match for match in found if min_similarity is None or match.similarity >= min_similarity]

    async def get(self, id: str) -> Vector | None:
        return await run_sync(self._get, id)

    def _find(self, queries: Sequence[_Query]) -> None:
        """In a thread: one product for all that have no condition, one more for each that has."""
        plain = [query for query in queries if query.where is None]
        if plain:
            most = max(query.k + len(query.exclude) for query in plain)
            with self._changing:
                found = self._index().search(np.stack([query.vector for query in plain]), most)
            for query, matches in zip(plain, found, strict=True):
                query.found = [match for match in matches if match.id not in query.exclude][: query.k]
        for query in queries:
            if query.where is not None:
                accept = partial(_satisfies, query.where)
                with self._changing:
                    (query.found,) = self._index().search(
                        query.vector[None], query.k, exclude=query.exclude, accept=accept
                    )

    async def ids(self, most: int) -> list[str]:
        """See VectorIndex.ids."""
        return await run_sync(self._ids, most)

    async def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        """Of those of these ids that are remembered."""
        return await run_sync(self._vectors, ids)

    async def payloads(self, ids: Collection[str]) -> Mapping[str, Payload | None]:
        """What is remembered along with those of these ids that are."""
        return await run_sync(self._payloads, ids)

    async def coordinates(self, ids: Sequence[str]) -> tuple[list[str], Matrix]:
        """See VectorIndex.coordinates."""
        return await run_sync(self._coordinates, ids)

    def _get(self, id: str) -> Vector | None:
        with self._changing:
            return self._index().get(id)

    def _ids(self, most: int) -> list[str]:
        with self._changing:
            return self._index().ids(most)

    def _vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        # One by one, so that nobody who judges or searches has to wait for all of them.
        return {id: vector for id in ids if (vector := self._get(id)) is not None}

    def _payloads(self, ids: Collection[str]) -> Mapping[str, Payload | None]:
        with self._changing:
            index = self._index()
            return index.payloads(ids)

    def _coordinates(self, ids: Sequence[str]) -> tuple[list[str], Matrix]:
        with self._changing:
            return self._index().coordinates(ids)


def _satisfies(where: Mapping[str, Scalar], payload: Payload | None) -> bool:
    return payload is not None and payload.satisfies(where)
