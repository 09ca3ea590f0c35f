"""Whether a provider's answer is what was asked for. Providers are not trusted: every row is checked before use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix

# Far outside what any model puts out, and inside what bytes in the wrong order or uninitialised memory decode to.
SHORTEST, LONGEST = 1e-6, 1e6


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """`rows`: (n, dimensions) float32 of unit length, meaningless where `is_good` (n bools) is false."""

    rows: Matrix
    is_good: NDArray[np.bool_]


class InvalidAnswer(ValueError):
    """An answer without one usable vector."""


class OtherWidth(InvalidAnswer):
    """Vectors of another length than the space's: another model, or one text that the model cannot cope with."""


def check_answer(
    vectors: Matrix, count: int, dimensions: int, *, matryoshka: bool = False, longest: int | None = None
) -> CheckedAnswer:
    """Check an answer to `count` texts and bring its rows to unit length.

    Longer vectors than `dimensions` are cut and renormalised if the model is trained for that (`matryoshka`) and its
    own are as long as that (`longest`, None where it is not known). Raises
    InvalidAnswer for any other number of rows, since nobody knows then which text each belongs to, and OtherWidth for
    any other width.
    """
    if vectors.ndim != 2 or len(vectors) != count:
        raise InvalidAnswer(f"{count} vectors were expected, {len(vectors)} came")
    width = vectors.shape[1]
    if width > dimensions and matryoshka and width <= (longest or width):
        vectors = vectors[:, :dimensions]
    elif width != dimensions and count:
        raise OtherWidth(f"vectors of {dimensions} dimensions were expected, the provider sent {width}")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        is_good = (norms >= SHORTEST) & (norms <= LONGEST)  # false for NaN, too
        rows = np.multiply(vectors, (1.0 / norms).astype(np.float32)[:, None], dtype=np.float32)
    return CheckedAnswer(rows, is_good)
