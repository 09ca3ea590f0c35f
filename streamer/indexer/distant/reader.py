"""Searches over the overlay and the store together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from streamer.core.vectors import Matrix, Vector
from streamer.core.verdicts import Match
from streamer.indexer.distant.overlay import IsStale, Overlay, merged
from streamer.indexer.index.payloads import Payload
from streamer.stores import Found, StoredEvent, VectorStore

MOST: Final = 16_384  # that a search may ask for: Milvus allows no more
_GROWTH: Final = 4
_ROWS: Final = 64  # queries in one call

T = TypeVar("T")


class Ask(Protocol):
    """Makes a call to the store."""

    def __call__(self, call: Callable[[], T]) -> T: ...


def once(call: Callable[[], T]) -> T:
    """Without patience: the call's error is the caller's."""
    return call()


class DistantReader:
    """SearchableEvents of an overlay and the store behind it. Raises what `ask` raises.

    `changing`: held while the overlay is looked at, never while the store is asked.
    """

    def __init__(
        self, overlay: Overlay, store: VectorStore, ask: Ask, changing: AbstractContextManager[object]
    ) -> None:
        self._overlay = overlay
        self._store = store
        self._ask = ask
        self._changing = changing

    def __contains__(self, id: str) -> bool:
        return self._find(id) is not None

    def get(self, id: str) -> Vector | None:
        with self._changing:
            vector = self._overlay.index.get(id)
        if vector is not None:
            return vector
        found = self._find(id)
        return None if found is None else found.vector

    def payload(self, id: str) -> Payload | None:
        found = self._find(id)
        return None if found is None else Payload(found.sketch, found.text, found.metadata)

    def payloads(self, ids: Collection[str]) -> dict[str, Payload | None]:
        return {event.id: Payload(event.sketch, event.text, event.metadata) for event in self.find(list(ids))}

    def ids(self, most: int) -> list[str]:
        """Of the latest ones, evenly spread."""
        with self._changing:
            latest = list(self._overlay.events)
        return latest[:: max(1, -(-len(latest) // most))]

    def coordinates(self, ids: Sequence[str]) -> tuple[list[str], Matrix]:
        found = {event.id: event for event in self.find(ids)}
        known = [id for id in ids if id in found]
        rows = [found[id].vector for id in known]
        return known, np.array(rows, np.float32).reshape(len(known), self._overlay.index.dimensions)

    def find(self, ids: Sequence[str]) -> list[StoredEvent]:
        """Those of these ids that are known, from wherever they are, with their vectors; in any order."""
        with self._changing:
            found = self._overlay.stored(id for id in dict.fromkeys(ids) if id in self._overlay.events)
            held = {event.id for event in found}
            missing = [id for id in dict.fromkeys(ids) if id not in held and id not in self._overlay.gone]
        return [*found, *(self._ask(lambda: self._store.get(missing)) if missing else ())]

    def search(
        self,
        queries: Matrix,
        k: int,
        *,
        exclude: Collection[str] = (),
        accept: Callable[[Any], bool] | None = None,
    ) -> list[list[Match]]:
        """See SearchableEvents. With `accept`, of the store's no more than the MOST nearest are looked at."""
        with self._changing:
            near = self._overlay.index.search(queries, k, exclude=exclude, accept=accept)
        hidden = frozenset(exclude)

        def is_stale(event: StoredEvent) -> bool:
            if event.id in hidden or self._overlay.is_stale(event):
                return True
            return accept is not None and not accept(Payload(None, event.text, event.metadata))

        found: list[list[Match]] = []
        for start in range(0, len(queries), _ROWS):
            part = slice(start, start + _ROWS)
            rules = [is_stale] * len(queries[part])
            found += self.join(queries[part], k, near[part], self.far(queries[part], k + len(hidden) + 1), rules)
        return found

    def far(self, queries: Matrix, limit: int, before: int | None = None) -> Sequence[Sequence[Found]]:
        """The store's nearest."""
        return self._ask(partial(self._store.search, queries, min(limit, MOST), before))

    def join(
        self,
        queries: Matrix,
        k: int,
        near: Sequence[Sequence[Match]],
        far: Sequence[Sequence[Found]],
        rules: Sequence[IsStale],
        *,
        limit: int | None = None,
        before: int | None = None,
        described: int | None = None,
        latest: int | None = None,
    ) -> list[list[Match]]:
        """Of each query the nearest of both, `k` of them where there are so many: the store is asked for more until
        there are. `rules`: which of the store's do not count, by query; `far`: what it has answered already."""
        limit = min(MOST, k + 1) if limit is None else limit
        joined: list[list[Match]] = []
        for i, query in enumerate(queries):
            its, asked = far[i], max(limit, len(far[i]))
            while True:
                was_cut = len(its) >= asked and asked < MOST
                both = merged(near[i], its, k, rules[i], was_cut=was_cut, described=described, latest=latest)
                if both is not None:
                    joined.append(both)
                    break
                asked = min(MOST, _GROWTH * asked)
                with_more: Sequence[Sequence[Found]] = self.far(query[None], asked, before)
                its = with_more[0]
        return joined

    def _find(self, id: str) -> StoredEvent | None:
        found = self.find([id])
        return found[0] if found else None
