"""Which partition a key belongs to, for many keys at once: the same one that Kafka's own clients choose.

The client's partitioner hashes a key at a time in Python, which took a sixth of what an event costs the worker.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import numpy as np
from aiokafka.partitioner import murmur2
from numpy.typing import NDArray

# org.apache.kafka.common.utils.Utils.murmur2, whose 32-bit arithmetic wraps around.
_SEED = np.uint32(0x9747B28C)
_FACTOR = np.uint32(0x5BD1E995)
_FEW = 8  # keys; for fewer the client's function is as fast
_LONG = 256  # bytes; all keys take as much room here as the longest


def partition_indices(keys: Sequence[bytes | None], count: int) -> NDArray[np.intp]:
    """The index of each key's partition among `count` of them; one at random for a record without a key."""
    lengths = [-1 if key is None else len(key) for key in keys]
    if len(keys) >= _FEW and min(lengths) >= 0 and max(lengths) <= _LONG:  # nearly always
        return _indices(cast("Sequence[bytes]", keys), count)
    short = [key for key in keys if key is not None and len(key) <= _LONG]
    if len(short) < _FEW:
        short_indices = iter([(murmur2(key) & 0x7FFFFFFF) % count for key in short])
    else:
        short_indices = iter(_indices(short, count).tolist())
    found = np.empty(len(keys), np.intp)
    for place, (key, length) in enumerate(zip(keys, lengths, strict=True)):
        if key is None:
            found[place] = random.randrange(count)  # noqa: S311  not for secrets
        elif length <= _LONG:
            found[place] = next(short_indices)
        else:
            found[place] = (murmur2(key) & 0x7FFFFFFF) % count
    return found


def places_by_index(indices: NDArray[np.intp]) -> dict[int, list[int]]:
    """Where each index stands, in order."""
    order = indices.argsort(kind="stable")
    found, starts = np.unique(indices[order], return_index=True)
    bounds = [*starts.tolist(), len(indices)]
    places = order.tolist()
    return {index: places[start:end] for index, start, end in zip(found.tolist(), bounds, bounds[1:], strict=False)}


def _indices(keys: Sequence[bytes], count: int) -> NDArray[np.intp]:
    return ((murmur2_of_all(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(count)).astype(np.intp)


def murmur2_of_all(keys: Sequence[bytes]) -> NDArray[np.uint32]:
    """Kafka's hash of each key, as a number without sign. Memory is that of the longest key times their number."""
    lengths = np.fromiter(map(len, keys), np.uint32, len(keys))
    width = 4 * (int(lengths.max(initial=0)) // 4 + 1)
    padded = b"".join([key.ljust(width, b"\0") for key in keys])
    words = np.frombuffer(padded, "<u4").reshape(len(keys), -1)
    hashes = _SEED ^ lengths
    whole = lengths // 4
    for place in range(words.shape[1] - 1):
        word = words[:, place] * _FACTOR
        word ^= word >> np.uint32(24)
        word *= _FACTOR
        hashes = np.where(place < whole, hashes * _FACTOR ^ word, hashes)
    # Up to three bytes are left over, and zeros where there are none.
    left_over = words[np.arange(len(keys)), whole]
    hashes = np.where(lengths % 4 > 0, (hashes ^ left_over) * _FACTOR, hashes)
    hashes ^= hashes >> np.uint32(13)
    hashes *= _FACTOR
    hashes ^= hashes >> np.uint32(15)
    return hashes
