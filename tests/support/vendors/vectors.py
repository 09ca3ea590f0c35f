"""The vector that a fake model gives a text: unit length, always the same, unlike that of any other text."""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from streamer.core.vectors import Vector


@functools.lru_cache(1_000)
def vector_for(text: str, native: int, *, dimensions: int | None = None, purpose: str = "") -> Vector:
    """`purpose`: the input type, where a service has them; it changes the vector. A shorter vector is the beginning of
    the native one, made a unit again, as with models trained to be cut."""
    seed = hashlib.blake2b(f"{purpose}\0{text}".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(seed, "little"))
    cut = rng.standard_normal(native, dtype=np.float32)[: dimensions or native]
    unit: Vector = cut / np.linalg.norm(cut)
    unit.flags.writeable = False  # the same array for all who ask
    return unit


def count_tokens(text: str) -> int:
    """Four bytes a token, at least one: the tokenizer of all fakes."""
    return max(1, -(-len(text.encode()) // 4))
