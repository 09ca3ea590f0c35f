"""An index as it was at one moment, for readers that need longer than a moment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix
from streamer.indexer.index.blocks import VectorStorage
from streamer.indexer.index.payloads import Payloads
from streamer.indexer.index.rotation import Rotation


class ReadView:
    """What an index remembered at one moment, oldest first; the vectors are taken in pieces while the index goes on.

    `ids`, `payloads` and `times` belong together by their place. Vectors that have not been taken yet are never
    overwritten, so that `next_vectors` may run beside the index, in another thread. They are in its `rotation`.
    """

    def __init__(
        self,
        rows: VectorStorage,
        rotation: Rotation,
        start: int,
        ids: list[str],
        payloads: Payloads,
        times: NDArray[np.int64],
    ) -> None:
        self.ids, self.payloads, self.times = ids, payloads, times
        self.rotation = rotation
        self.untaken = start
        self._end = start + len(ids)
        self._storage = rows

    @property
    def taken(self) -> bool:
        return self.untaken == self._end

    def next_vectors(self, count: int) -> Matrix:
        """The vectors of the next `count` ids, or of as many as are left."""
        start, stop = self.untaken, min(self._end, self.untaken + count)
        vectors = self._storage.get(np.arange(start, stop) % len(self._storage))
        self.untaken = stop  # last: from now on these rows may be overwritten
        return vectors

    def release(self) -> None:
        """Release the remaining rows: the index may overwrite them."""
        self.untaken = self._end
