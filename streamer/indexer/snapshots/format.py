"""An index and its judge at one moment, in bytes: written piece by piece, read back whole or not at all.

`MAGIC`, then frames: a length (8 bytes, little-endian), so many bytes, and 16 bytes of BLAKE2b over both and those of
all earlier frames. So nothing is looked at before it is known to be what was written, and neither a changed byte nor
a file that was cut short goes unnoticed. The frames: a header (JSON); the coordinates of the index (JSON, and their
axes in pieces, if any); pieces of the index, oldest first; what the judge knows (JSON); its recent vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.core.events import TopicPartition
from streamer.core.vectors import Matrix
from streamer.indexer.index.basis import Basis
from streamer.indexer.index.payloads import NOTE, Payload
from streamer.indexer.index.read_view import ReadView
from streamer.indexer.index.rotation import Rotation
from streamer.indexer.verdicts.judge import Judge

MAGIC: Final = b"streamer index\n"
VERSION: Final = 7  # raise it whenever what is written changes its meaning
# 5 says less about recent scores, which is learned within 32 events, and both nothing about new forms, within 400.
_UNDERSTOOD: Final = (5, 6, VERSION)

_PIECE: Final = 4 << 20  # bytes of vectors in a frame, the most that writing and reading hold on to at once
_LENGTH: Final = 8
_DIGEST: Final = 16

T = TypeVar("T")
Facts: TypeAlias = Mapping[str, str | int | float | None]
Offsets: TypeAlias = Mapping[TopicPartition, int]


class UnusableSnapshot(ValueError):
    """Torn, damaged, of something else, or of another time. The text goes on from "the snapshot is ignored: "."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """`facts`: by name, what must be the same for whoever goes on from here. `offsets`: the next to be read. `read_at`:
    seconds since the epoch at which nothing in the topic was left unread. `vectors`: how many follow."""

    facts: Facts
    offsets: Offsets
    read_at: float
    vectors: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Everything of one moment. `state` and `recent`: of the judge."""

    header: Header
    view: ReadView
    state: Mapping[str, Any]
    recent: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicBounds:
    """Where each partition begins and ends, and up to where verdicts are committed (none: left out)."""

    beginning_offsets: Offsets
    end_offsets: Offsets
    committed: Offsets

    def uncommitted(self, offsets: Offsets) -> TopicPartition | None:
        """A partition whose offset lies beyond what has been committed for it."""
        for tp, offset in offsets.items():
            if offset > max(self.committed.get(tp, 0), self.beginning_offsets.get(tp, 0)):
                return tp
        return None


def check(header: Header, facts: Facts, bounds: TopicBounds, *, age: float, most: float) -> None:
    """Raises UnusableSnapshot unless one may go on from it. `age` and `most` in seconds.

    One that is ahead of the committed verdicts would leave out those in between. One that is older than the time for
    which the topic keeps tombstones might bring back what was deleted since.
    """
    for name, ours in facts.items():
        if (theirs := header.facts.get(name)) != ours:
            raise UnusableSnapshot(f"its {name} is {theirs}, but here it is {ours}")
    for tp, offset in header.offsets.items():
        begin, end = bounds.beginning_offsets.get(tp, 0), bounds.end_offsets.get(tp)
        if end is None or not begin <= offset <= end:
            where = "is gone" if end is None else f"holds offsets {begin} to {end}"
            raise UnusableSnapshot(f"it goes on at {tp}/{offset}, but that partition {where}")
    if ahead := bounds.uncommitted(header.offsets):
        committed = bounds.committed.get(ahead, 0)
        raise UnusableSnapshot(
            f"it goes on at {ahead}/{header.offsets[ahead]}, but verdicts are committed up to {committed} only"
        )
    if age > most:
        hours = f"it is {age / 3600:.1f} hours old, but the topic may keep deletions for {most / 3600:.1f} only"
        raise UnusableSnapshot(hours)


def encode(cut: Cut) -> Iterator[bytes]:
    """The bytes, in pieces, made as they are asked for: the vectors are taken from the index one piece at a time."""
    seal = blake2b(MAGIC, digest_size=_DIGEST)

    def frame(*parts: bytes) -> bytes:
        payload = b"".join(parts)
        framed = len(payload).to_bytes(_LENGTH, "little") + payload
        seal.update(framed)
        return framed + seal.digest()

    header, view = cut.header, cut.view
    document = {
        "version": VERSION,
        "facts": header.facts,
        "offsets": [[*tp, offset] for tp, offset in header.offsets.items()],
        "read_at": header.read_at,
        "vectors": header.vectors,
    }
    yield MAGIC + frame(orjson.dumps(document))
    basis = view.rotation.basis
    yield frame(orjson.dumps({"final": view.rotation.final, "leading": basis and basis.leading}))
    if basis is not None:
        rows = max(1, _PIECE // basis.axes[0].nbytes)
        for start in range(0, len(basis.axes), rows):
            yield frame(basis.axes[start : start + rows].astype("<f8", copy=False).tobytes())
    rows = max(1, _PIECE // (4 * cut.recent.shape[1]))
    for start in range(0, header.vectors, rows):
        part = slice(start, start + rows)
        ids, times = view.ids[part], view.times[part].tolist()
        payloads = [view.payloads[i] for i in range(start, start + len(ids))]
        described = orjson.dumps([ids, times, [_described(payload) for payload in payloads]])
        sketches = b"".join(
            payload.sketch for payload in payloads if payload is not None and payload.sketch is not None
        )
        vectors = view.next_vectors(rows).astype("<f4", copy=False).tobytes()
        notes = view.payloads.notes[part].tobytes()
        yield frame(len(described).to_bytes(_LENGTH, "little"), described, vectors, notes, sketches)
    yield frame(orjson.dumps(cut.state))
    yield frame(cut.recent.astype("<f4", copy=False).tobytes())


class SnapshotReader:
    """Reads `size` bytes through `read`, which is given how many are wanted. Raises UnusableSnapshot."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read = read
        self._left = size
        self._seal = blake2b(MAGIC, digest_size=_DIGEST)
        if self._take(len(MAGIC)) != MAGIC:
            raise UnusableSnapshot("it is not a snapshot of an index")
        self.header = _understood(self._header)

    def rebuild(self, judge: Judge) -> None:
        """Make a new judge the one that was written. When this raises, the judge is to be thrown away."""
        _understood(lambda: self._rebuild(judge))

    def _header(self) -> Header:
        document = orjson.loads(self._frame())
        if document["version"] not in _UNDERSTOOD:
            raise UnusableSnapshot(f"its format has version {document['version']}, but ours is {VERSION}")
        offsets = {TopicPartition(topic, partition): offset for topic, partition, offset in document["offsets"]}
        return Header(
            facts=document["facts"], offsets=offsets, read_at=document["read_at"], vectors=document["vectors"]
        )

    def _rebuild(self, judge: Judge) -> None:
        judge.index.resume(self._rotation(judge.index.dimensions))
        left = self.header.vectors
        while left > 0:
            left -= _insert(judge, memoryview(self._frame()))
        state = orjson.loads(self._frame())
        recent = np.frombuffer(self._frame(), "<f4").reshape(-1, judge.index.dimensions)
        judge.resume(state, recent)
        if left or self._left:
            raise UnusableSnapshot("it does not end where it should")

    def _rotation(self, dimensions: int) -> Rotation:
        document = orjson.loads(self._frame())
        if document["leading"] is None:
            return Rotation(dimensions, None, document["final"])
        axes: NDArray[np.float64] = np.empty((dimensions, dimensions))
        read = 0
        while read < dimensions:
            piece = np.frombuffer(self._frame(), "<f8").reshape(-1, dimensions)
            axes[read : read + len(piece)] = piece
            read += len(piece)
        return Rotation(dimensions, Basis(axes, document["leading"]), document["final"])

    def _frame(self) -> bytes:
        prefix = self._take(_LENGTH)
        payload = self._take(int.from_bytes(prefix, "little"))
        self._seal.update(prefix)
        self._seal.update(payload)
        if self._take(_DIGEST) != self._seal.digest():
            raise UnusableSnapshot("it is damaged: its bytes are not those that were written")
        return payload

    def _take(self, count: int) -> bytes:
        if count > self._left:  # looked at first: a damaged length must not reserve memory
            raise UnusableSnapshot("it is cut short, or damaged")
        self._left -= count
        taken = self._read(count)
        if len(taken) < count:
            raise UnusableSnapshot("it is cut short")
        return taken


def _insert(judge: Judge, payload: memoryview) -> int:
    """Put a piece into the index; how many vectors that were."""
    start = _LENGTH + int.from_bytes(payload[:_LENGTH], "little")
    ids, times, described = orjson.loads(payload[_LENGTH:start])
    dimensions = judge.index.dimensions
    split = start + 4 * dimensions * len(ids)
    vectors = np.frombuffer(payload[start:split], "<f4").reshape(len(ids), dimensions)
    notes = np.frombuffer(payload[split : split + NOTE.itemsize * len(ids)], NOTE)
    split += notes.nbytes
    payloads: list[Payload | None] = []
    for entry in described:
        if entry is None:
            payloads.append(None)
            continue
        length, text, metadata = entry
        sketch = None if length is None else bytes(payload[split : split + length])
        split += length or 0
        payloads.append(Payload(sketch, text, metadata))
    judge.index.take_back(ids, vectors.astype(np.float32, copy=False), payloads, times, notes.tolist())
    return len(ids)


def _described(payload: Payload | None) -> Sequence[Any] | None:
    """All of a payload but the bytes of its sketch, of which only the number is told."""
    return (
        None
        if payload is None
        else (None if payload.sketch is None else len(payload.sketch), payload.text, payload.metadata)
    )


def _understood(read: Callable[[], T]) -> T:
    """What is whole and yet makes no sense was written by a version that forgot to say so."""
    try:
        return read()
    except UnusableSnapshot:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as exc:
        raise UnusableSnapshot(f"it is whole, but cannot be understood: {exc!r}") from exc
