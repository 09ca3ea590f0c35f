"""AG News with vectors of the local model, which are kept in a temporary folder from one run to the next."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.adapters.providers.onnx import OnnxProvider
from streamer.core.vectors import Matrix, unit_rows

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "ag_news_test.csv"
CLASSES = {1: "world", 2: "sports", 3: "business", 4: "science"}

_GROUP = 512


def load() -> tuple[list[str], NDArray[np.int64]]:
    """Texts (title and description) and their classes, 1 to 4. Exits when the data is not there."""
    if not DATA.exists():
        sys.exit(f"{DATA} is absent: this benchmark needs AG News")
    with DATA.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return [f"{title}. {description}" for _, title, description in rows], np.array([int(row[0]) for row in rows])


def embed(texts: Sequence[str]) -> Matrix:
    """Unit vectors of texts; computed once for these texts."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"streamer-bench-{digest}.npy"
    if not path.exists():
        np.save(path, asyncio.run(_embed(texts)))
    vectors: Matrix = np.load(path)
    return vectors


async def _embed(texts: Sequence[str]) -> Matrix:
    provider = await OnnxProvider.open()
    try:
        groups = [texts[start : start + _GROUP] for start in range(0, len(texts), _GROUP)]
        return unit_rows(np.concatenate([(await provider.embed(group, "document")).vectors for group in groups]))
    finally:
        await provider.aclose()


def natural_copies(texts: Sequence[str], vectors: Matrix) -> dict[int, set[int]]:
    """Texts that the agencies themselves sent twice: index -> its copies.

    No one has labelled them. The rule shares nothing with the methods under test but the idea that a copy repeats
    words: three fifths of the shorter one's, among its ten nearest.
    """
    words = [set(re.findall(r"\w+", text.lower())) for text in texts]
    copies: dict[int, set[int]] = {}
    for start in range(0, len(texts), 500):
        scores = vectors[start : start + 500] @ vectors.T
        for i, row in enumerate(np.argpartition(-scores, 11, axis=1)[:, :11].tolist(), start):
            for j in row:
                if i != j and len(words[i] & words[j]) >= 0.6 * min(len(words[i]), len(words[j])):
                    copies.setdefault(i, set()).add(j)
                    copies.setdefault(j, set()).add(i)
    return copies
