"""How large a compressed batch becomes, told without decompressing it: the client decompresses a batch whole.

From what the formats say of themselves, block by block; nothing that a sender may write at will is believed. What is no
valid data of its format is left to the client, which refuses it: up to where it is valid, it has been counted.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, Literal

import cramjam

LARGEST_BATCH: Final = 256 * 1024 * 1024
"""Bytes that a batch may decompress to. Producers fill batches by their size before compression, megabytes at most."""

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4  # codes of Kafka's

_PIECE: Final = 1 << 20
_GZIP_RATIO: Final = 1032  # at most, by the format
_LZ4_RATIO: Final = 255
_LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK: Final = 128 * 1024
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16


def exceeds(codec: int, data: memoryview, limit: int) -> bool:
    """Whether the data decompress to more than `limit` bytes.

    Takes the time of a loop over the blocks. Where a format says too little, as gzip does of large batches and others
    of suspiciously many blocks, it takes that of decompressing as much as `limit`.
    """
    try:
        if codec == GZIP:
            return len(data) * _GZIP_RATIO > limit and _gzip_exceeds(data, limit)
        if codec == SNAPPY:
            return _snappy_bytes(data) > limit
        if codec == LZ4:
            return len(data) * _LZ4_RATIO > limit and _lz4_exceeds(data, limit) and not _fits(cramjam.lz4, data, limit)
        if codec != ZSTD:
            return False
        least, most = _zstd_bytes(data, limit)
        return least > limit or (most > limit and not _fits(cramjam.zstd, data, limit))
    except (IndexError, zlib.error, cramjam.DecompressionError):
        return False  # cut short or no such data


def _gzip_exceeds(data: memoryview, limit: int) -> bool:
    total, rest = 0, bytes(data)
    while rest:  # of several members
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        while not member.eof and (piece := member.decompress(rest, _PIECE)):
            total += len(piece)
            if total > limit:
                return True
            rest = member.unconsumed_tail
        rest = member.unused_data
    return False


def _snappy_bytes(data: memoryview) -> int:
    """As the data announce: the decoder refuses blocks of another size, but makes room for what is announced."""
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return int(cramjam.snappy.decompress_raw_len(bytes(data)))
    total, place = 0, _XERIAL_HEADER
    while place < len(data):
        size = _number(data, place, 4, "big")
        total += int(cramjam.snappy.decompress_raw_len(bytes(data[place + 4 : place + 14])))
        place += 4 + size
    return total


def _lz4_exceeds(data: memoryview, limit: int) -> bool:
    total = place = 0
    while bytes(data[place : place + 4]) == _LZ4_MAGIC:
        flags, block = data[place + 4], 1 << (2 * (data[place + 5] >> 4 & 7) + 8)
        checksum = 4 * (flags >> 4 & 1)
        place += 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)
        while size := _number(data, place, 4, "little"):
            is_plain, size = size >> 31, size & 0x7FFFFFFF
            total += size if is_plain else min(block, _LZ4_RATIO * size)
            if total > limit:
                return True
            place += 4 + size + checksum
        place += 4 + 4 * (flags >> 2 & 1)
    return False


def _zstd_bytes(data: memoryview, limit: int) -> tuple[int, int]:
    """The size, at least and at most; as far as it takes to know that it is above the limit. Blocks of one byte that is
    repeated, which bombs are made of, say their size; others are of 128 KiB at most."""
    least = most = place = 0
    while place < len(data):
        if data[place] >> 4 == 5 and bytes(data[place + 1 : place + 4]) == b"\x2a\x4d\x18":  # to be skipped
            place += 8 + _number(data, place + 4, 4, "little")
            continue
        if bytes(data[place : place + 4]) != _ZSTD_MAGIC:
            break
        about = data[place + 4]
        has_one_segment = about >> 5 & 1
        content_size = (has_one_segment, 2, 4, 8)[about >> 6]
        place += 5 + (not has_one_segment) + (0, 1, 2, 4)[about & 3] + content_size
        is_last = False
        while not is_last:
            head = _number(data, place, 3, "little")
            is_last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
            least += 0 if kind == 2 else size
            most += _ZSTD_BLOCK if kind == 2 else size
            if least > limit:
                return least, most
            place += 3 + (1 if kind == 1 else size)
        place += 4 * (about >> 2 & 1)
    return least, most


def _fits(decoder: Any, data: memoryview, limit: int) -> bool:
    """For blocks that were closed early: their number bounds the size from far above."""
    try:
        decoder.decompress_into(bytes(data), bytearray(limit))
    except cramjam.DecompressionError:
        return False
    return True


def _number(data: memoryview, place: int, size: int, order: Literal["big", "little"]) -> int:
    """Raises IndexError at the end of the data."""
    if place + size > len(data):
        raise IndexError
    return int.from_bytes(data[place : place + size], order)
