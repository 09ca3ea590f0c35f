"""The job that all peers do: a JSON text comes, a vector event goes, with a vector that costs nothing.

It runs in the environment of each peer, which has numpy and orjson and nothing of streamer. What is sent is the JSON
that a worker of streamer sends, byte for byte but for the vector; the headers of streamer (sketch, form, space) are
left out.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

_NAMES = ("SERVERS", "SOURCE", "TARGET", "GROUP")
SERVERS, SOURCE, TARGET, GROUP = (os.environ.get(f"PEER_{name}", "") for name in _NAMES)
DIMENSIONS = 384
SPACE = os.environ.get("PEER_SPACE", "")  # as long as streamer's

_POOL = np.random.default_rng(0).standard_normal((4096, DIMENSIONS)).astype(np.float32)
_POOL /= np.linalg.norm(_POOL, axis=1, keepdims=True)
_numbers = itertools.count()


def embed(texts: Sequence[str]) -> list[Any]:
    """A vector for each text, as a model would give them."""
    return [_POOL[next(_numbers) % len(_POOL)] for _ in texts]


def vector_event(key: bytes, document: dict[str, Any], vector: Any, source: tuple[int, int, int]) -> bytes:
    """`source`: partition, offset and timestamp of the record that the text came in."""
    partition, offset, timestamp = source
    text = document.pop("text")
    body = {
        "id": key.decode(),
        "vector": vector,
        "model": "stub",
        "space": SPACE,
        "dimensions": DIMENSIONS,
        "truncated": False,
        "tokens": 5,
        "cache_hit": False,
        "source": {"topic": SOURCE, "partition": partition, "offset": offset, "timestamp": timestamp},
        "text": text,
        "metadata": document,
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
