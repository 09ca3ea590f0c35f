"""In which coordinates an index keeps its vectors, and when it goes over to better ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix
from streamer.indexer.index.basis import FITTED, LONGEST, Basis, find_basis
from streamer.indexer.index.blocks import Beside, VectorBlocks, VectorStorage, at_once
from streamer.indexer.index.split_blocks import SplitBlocks

_SOUGHT_AT: Final = 4_096  # vectors: fewer are searched in no time
_MOST_AWAITED: Final = 16_384
TURNED: Final = 2048  # vectors that are worth waiting for to turn them in one go: other threads run meanwhile
_PIECE: Final = 256  # vectors turned at a time: what is made of more would stay with the process


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """`basis`: None for the vectors' own. `final`: no others will be looked for."""

    dimensions: int
    basis: Basis | None
    final: bool

    @classmethod
    def initial(cls, dimensions: int, capacity: int) -> Rotation:
        """Those of a new index."""
        return cls(dimensions, None, capacity < _enough(dimensions) or dimensions > LONGEST)

    def due_after(self, count: int) -> int | None:
        """After how many more vectors than `count` others are to be looked for; None: never."""
        return None if self.final else max(0, _enough(self.dimensions) - count)

    def improved(self, rows: VectorStorage, alive: NDArray[np.int64], beside: Beside = at_once) -> Rotation:
        """The final ones, chosen for the vectors in the slots `alive`. `beside`: where half of the work is done."""
        return replace(self, basis=find_basis(rows, alive, beside), final=True)

    def storage(self, slots: int) -> VectorStorage:
        """Empty, for vectors in these coordinates."""
        if self.basis is None:
            return VectorBlocks(slots, self.dimensions)
        return SplitBlocks(slots, self.dimensions, self.basis.leading)

    def into(self, vectors: Matrix) -> Matrix:
        """Vectors (n, dimensions) in these coordinates."""
        return vectors if self.basis is None else self.basis.into(vectors)

    def back(self, turned: Matrix) -> Matrix:
        """The vectors that these were."""
        return turned if self.basis is None else self.basis.back(turned)

    def moved(self, rows: VectorStorage, slots: NDArray[np.int64], beside: Beside = at_once) -> VectorStorage:
        """As many slots, with what others keep in the vectors' own coordinates in those of `slots`. `beside`: where
        half of the work is done."""
        target = self.storage(len(rows))
        pieces = iter([slots[start : start + _PIECE] for start in range(0, len(slots), _PIECE)])

        def work() -> None:
            for piece in pieces:  # whoever is faster takes more of them
                target.put(piece, self.into(rows.get(piece)))

        wait = beside(work)
        work()
        wait()
        return target


def _enough(dimensions: int) -> int:
    """Vectors to look for their axes among."""
    return max(_SOUGHT_AT, min(FITTED * dimensions, _MOST_AWAITED))
