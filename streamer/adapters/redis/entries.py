"""Names and values in Redis. Pure: no connection, no clock."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from streamer.core.vectors import Vector
from streamer.protocols import Embedding

VERSION = 1
SPACES = b"streamer:spaces"  # a hash: the id of each space, and its provider and model
VECTORS = b"streamer:v:"
_HEADER = struct.Struct("<BBxxII")  # version, truncated, tokens, checksum; the vector begins at a multiple of four

# Each answers with one number for each key. An answer for each key, so that a cluster can be asked key by key.
PUT = """local r = {}
for i, k in ipairs(KEYS) do
  if ARGV[1] == '0' then redis.call('SET', k, ARGV[i + 1]) else redis.call('SET', k, ARGV[i + 1], 'PX', ARGV[1]) end
  r[i] = 1
end
return r"""


def vector_key(space: str, key: bytes) -> bytes:
    """No hash tag: in a cluster, the entries of a space lie on all servers."""
    return b"%b%b:%b" % (VECTORS, space.encode(), key.hex().encode())


def encode(key: bytes, embedding: Embedding) -> bytes:
    vector = embedding.vector.astype("<f4", copy=False).tobytes()
    truncated, tokens = int(embedding.truncated), embedding.tokens
    return _HEADER.pack(VERSION, truncated, tokens, _checksum(key, vector, truncated, tokens)) + vector


def decode(key: bytes, value: bytes, dimensions: int) -> Embedding | None:
    """What a value holds; None when it is not what was stored under this key."""
    if len(value) != _HEADER.size + 4 * dimensions:
        return None
    version, truncated, tokens, checksum = _HEADER.unpack_from(value)
    if version != VERSION or _checksum(key, value[_HEADER.size :], truncated, tokens) != checksum:
        return None
    vector: Vector = np.frombuffer(value, dtype="<f4", offset=_HEADER.size).astype(np.float32, copy=False)
    return Embedding(vector, tokens, bool(truncated), cache_hit=True)


def _checksum(key: bytes, vector: bytes, truncated: int, tokens: int) -> int:
    # Over the key as well: an answer that was meant for another question must not pass.
    return zlib.crc32(vector, zlib.crc32(b"%d %d %d " % (VERSION, tokens, truncated) + key))
