"""Unit vectors, the space they live in, and the key under which a text's vector is remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

Vector: TypeAlias = NDArray[np.float32]  # (dimensions,)
Matrix: TypeAlias = NDArray[np.float32]  # (n, dimensions)
Purpose: TypeAlias = Literal["document", "query"]

PREPROCESSING_VERSION = 1  # raise it whenever `Space.prepare` changes what the model is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Everything that changes a vector. Two vectors may be compared only when their spaces are equal.

    `id`: twelve hex digits that stand for all the rest (48 bits: enough to tell a handful of spaces apart).
    `revision` pins the weights (a file hash, a commit) where that is known; `precision` is the arithmetic of a local
    model or the number format of a remote one; `document_*` and `query_*` say how a text is presented to the model for
    each purpose; `reduction` names a projection done by us ("" for none).
    """

    provider: str
    model: str
    dimensions: int
    revision: str = ""
    precision: str = "float32"
    document_prefix: str = ""
    query_prefix: str = ""
    document_input_type: str = ""
    query_input_type: str = ""
    on_too_long: str = "truncate"
    max_tokens: int = 0
    reduction: str = ""
    normalized: bool = True
    preprocessing: int = PREPROCESSING_VERSION
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        everything = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        payload = orjson.dumps(everything, option=orjson.OPT_SORT_KEYS)
        object.__setattr__(self, "id", hashlib.blake2b(payload, digest_size=6).hexdigest())

    def prepare(self, text: str, purpose: Purpose) -> str:
        """The exact text that the model is given; the one place where indexing and querying agree on it."""
        return self._prefix(purpose) + text

    def prepare_all(self, texts: Sequence[str], purpose: Purpose) -> Sequence[str]:
        """Each of them prepared."""
        prefix = self._prefix(purpose)
        return [prefix + text for text in texts] if prefix else texts

    def _prefix(self, purpose: Purpose) -> str:
        return self.document_prefix if purpose == "document" else self.query_prefix


def cache_key(prepared: str, purpose: Purpose) -> bytes:
    """32 bytes that identify a prepared text within a space.

    The purpose is part of it: providers with an input type give one text two vectors.
    """
    return cache_keys([prepared], purpose)[0]


def cache_keys(prepared: Sequence[str], purpose: Purpose) -> list[bytes]:
    """The key of each text."""
    begin = hashlib.blake2b(digest_size=32, person=purpose.encode()).copy
    keys = []
    for text in prepared:
        digest = begin()
        # `surrogatepass`: a lone surrogate must not crash the worker; equal texts still give equal bytes.
        digest.update(text.encode() if text.isascii() else text.encode("utf-8", "surrogatepass"))
        keys.append(digest.digest())
    return keys


def unit_rows(rows: ArrayLike) -> Matrix:
    """Scale each row of an (n, dimensions) array to Euclidean length 1, as float32.

    Raises ValueError, naming the first such row, when one is zero or holds NaN or infinity.
    """
    matrix = np.atleast_2d(np.asarray(rows, dtype=np.float32))
    # float64 sums: the norm of a long float32 row would otherwise miss 1 by more than an ulp or overflow.
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        raise ValueError(f"row {bad[0]} cannot be normalised: its length is {norms[bad[0]]}")
    unit: Matrix = (matrix / norms[:, None]).astype(np.float32)
    return unit
