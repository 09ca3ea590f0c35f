"""The job of a bench on a broker: its settings, its texts, and a provider that costs nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import orjson

from streamer.core.vectors import Matrix, Purpose, Space, unit_rows
from streamer.protocols import Embedding, Rejection
from streamer.settings import Settings, load_settings

POOL = 4096  # vectors that are used again and again
WARM = 10  # a tenth of the events passes before anything is measured


def settings_of(where: Mapping[str, Any]) -> Settings:
    """`where`: `config`, the path of a file or None, and `overrides`, values by `section.key`."""
    config = where.get("config")
    return load_settings(Path(config) if config else None, os.environ, where.get("overrides", {}))


class Stub:
    """A provider whose vectors cost nothing and take `seconds`: what is left is the worker's own."""

    def __init__(self, dimensions: int, seconds: float = 0.0) -> None:
        self.space = Space(provider="stub", model="stub", dimensions=dimensions)
        self.vectors = pool(dimensions)
        self._seconds = seconds

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        del purpose
        if self._seconds:
            await anyio.sleep(self._seconds)
        else:
            await anyio.lowlevel.checkpoint()
        return [Embedding(self.vectors[n % POOL], 5, False) for n in range(len(texts))]


def pool(dimensions: int) -> Matrix:
    """The same in every process."""
    return unit_rows(np.random.default_rng(0).standard_normal((POOL, dimensions)))


def text_event(number: int) -> tuple[bytes, bytes]:
    """Key and value of the text topic's n-th record."""
    return b"%d" % number, orjson.dumps({"text": f"event {number} says hello to the world", "n": number})
