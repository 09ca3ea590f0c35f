"""Vector events read back from their topic, in either format. Bad records give a reason, never an exception."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamer.core.events import Record, TopicPartition
from streamer.core.reading import MAX_DEPTH, Unreadable, check_id, read_json
from streamer.core.sketch import FORM_HEADER, SKETCH_HEADER, TextForm, unpack, unpack_form
from streamer.core.vectors import Matrix, Vector

JSON = "application/json"
BINARY = "application/octet-stream"
SOURCE_TIMESTAMP = "streamer-source-timestamp"
"""Header with the timestamp of the text's record, in milliseconds, where the topic refuses it as a record's own."""

# Single precision spoils a unit vector's length by 1e-7, half precision by 1e-3; swapped bytes or a vector that was
# never normalised miss by far more.
_LENGTH_TOLERANCE = 1e-2

_LONGEST_TOPIC = 249  # characters, as Kafka allows
_LONGEST_PLACE = _LONGEST_TOPIC + 11  # of a partition
LONGEST_NAME = 500  # characters, of a model or a space

_LITTLE = np.dtype("<f4")
_NATIVE = np.dtype(np.float32) == _LITTLE
_TYPES = {name.encode(): name for name in (JSON, BINARY)}  # as we write them
_OFFSET_DIGITS = len(str(2**63))

# What there is of every event is not `frozen`, as in events.py: it would take three times as long to create.


@dataclass(slots=True, unsafe_hash=True)
class TextSource:
    """The record of the text topic that held the text. `timestamp`: milliseconds since the epoch, None when unknown."""

    tp: TopicPartition
    offset: int
    timestamp: int | None = None

    def __str__(self) -> str:
        return f"{self.tp}/{self.offset}"

    def to_dict(self) -> dict[str, Any]:
        """The source as JSON carries it: topic, partition, offset, timestamp."""
        return {
            "topic": self.tp.topic,
            "partition": self.tp.partition,
            "offset": self.offset,
            "timestamp": self.timestamp,
        }


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class VectorEvent:
    """A unit vector, float32 of shape (dimensions,), and where it came from. `space`: the id of its vector space.

    `text` and `metadata` are there only if the worker was told to include them. `timestamp`: of the record,
    milliseconds since the epoch. `sketch` and `form`: of the text, unpacked. `partition` and `offset`: where the event
    itself lies in the vector topic; None where it comes from elsewhere.
    """

    id: str
    vector: Vector
    space: str
    model: str
    source: TextSource | None = None
    text: str | None = None
    metadata: Mapping[str, Any] | None = None
    timestamp: int = 0
    sketch: bytes | None = None
    form: TextForm | None = None
    partition: int | None = field(default=None, compare=False)
    offset: int | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The event in JSON's own types, with the names of the topic's format: fit for `json.dumps`."""
        document: dict[str, Any] = {
            "id": self.id,
            "vector": self.vector.tolist(),
            "model": self.model,
            "space": self.space,
            "dimensions": len(self.vector),
            "source": None if self.source is None else self.source.to_dict(),
        }
        optional = {"text": self.text, "metadata": None if self.metadata is None else dict(self.metadata)}
        return document | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Deletion:
    """A tombstone: the event `id` has been deleted."""

    id: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not a vector event, and why."""

    reason: str


VectorInput: TypeAlias = VectorEvent | Deletion | Malformed


def decode_vector_event(record: Record) -> VectorInput:
    """What a record of the vector topic says. Never raises.

    The record's key is the event's id, in both formats, because a tombstone has nothing else. Of a header that occurs
    twice the last one counts. What verdicts, snapshots and searches could not carry is Malformed: ids longer than
    MAX_ID_BYTES or with control characters, JSON nested deeper than the worker reads, numbers that Kafka has not.
    """
    (found,) = decode_vector_events([record])
    if isinstance(found, VectorEvent) and not found.vector.flags.writeable:
        found.vector = found.vector.copy()
    return found


def decode_vector_events(records: Sequence[Record]) -> list[VectorInput]:
    """The same for many at once, which is faster. Vectors may lie in their records, which keeps them read-only."""
    read = [_read(record) for record in records]
    at = [i for i, event in enumerate(read) if isinstance(event, VectorEvent)]
    lengths = _lengths([read[i].vector for i in at])  # type: ignore[union-attr]  # those at `at` are events
    for place in np.flatnonzero(~are_one(lengths)).tolist():
        read[at[place]] = Malformed(f"the vector's length is {lengths[place]:g}, not 1")
    return read


def lengths_of(rows: Matrix) -> NDArray[np.float32]:
    """Of vectors (n, dimensions), which may hold anything."""
    with np.errstate(all="ignore"):  # NaN, infinity and overflow are what this is looking for
        lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        return lengths


def are_one(lengths: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which of these are those of unit vectors, as nearly as can be expected."""
    near: NDArray[np.bool_] = np.abs(lengths - 1) <= _LENGTH_TOLERANCE  # NaN is not 1 either
    return near


def _lengths(rows: Sequence[Vector]) -> NDArray[np.floating[Any]]:
    if len({len(row) for row in rows}) == 1:
        return lengths_of(np.concatenate(rows).reshape(len(rows), -1))  # a third of the time of np.array
    with np.errstate(all="ignore"):
        return np.array([np.linalg.norm(row) for row in rows])


def _read(record: Record) -> VectorInput:
    """What a record says, the length of its vector unchecked."""
    headers = dict(record.headers)
    try:
        if record.unreadable is not None:
            return Malformed(record.unreadable)
        key = None if record.key is None else check_id(record.key.decode())
        value = record.value
        if value is None:
            return Malformed("a tombstone needs a key") if key is None else Deletion(key)
        if SOURCE_TIMESTAMP in headers:
            timestamp = _integer("timestamp", headers[SOURCE_TIMESTAMP].decode(), 63)
            record = replace(record, timestamp=timestamp)
        declared = headers.get("content-type", b"")
        content_type = _TYPES.get(declared) or declared.decode().partition(";")[0].strip().lower()
        if content_type == BINARY:
            return _checked(_decode_binary(key, record, headers), int(_required(headers, "streamer-dimensions")))
        if content_type == JSON or (not content_type and value.startswith(b"{")):
            return _decode_json(key, record, headers)
        return Malformed(f"content-type {content_type!r} is neither {JSON} nor {BINARY}")
    except (Unreadable, ValueError, TypeError, OverflowError) as exc:
        return Malformed(str(exc))
    except Exception as exc:  # noqa: BLE001  # one record must not end the process, even if this is a bug
        return Malformed(f"decoding failed: {exc!r}")


def _decode_binary(key: str | None, record: Record, headers: Mapping[str, bytes]) -> VectorEvent:
    if key is None:
        raise ValueError("a binary vector event needs a key")
    source, text = headers.get("streamer-source"), headers.get("streamer-text")
    described = headers.get("streamer-metadata")
    metadata = None if described is None else read_json(described)
    vector = np.frombuffer(record.value or b"", _LITTLE)
    return VectorEvent(
        id=key,
        vector=vector if _NATIVE else vector.astype(np.float32),
        space=_required(headers, "streamer-space"),
        model=headers.get("streamer-model", b"").decode(),
        source=None if source is None else _parse_source(source.decode(), record.timestamp),
        text=None if text is None else text.decode(),
        metadata=metadata if isinstance(metadata, dict) else None,
        timestamp=record.timestamp,
        sketch=unpack(headers.get(SKETCH_HEADER, b"")),
        form=unpack_form(headers.get(FORM_HEADER, b"")),
        partition=record.tp.partition,
        offset=record.offset,
    )


def _decode_json(key: str | None, record: Record, headers: Mapping[str, bytes]) -> VectorInput:
    document = read_json(record.value or b"", MAX_DEPTH + 1)  # the metadata lie one level deeper than they came
    if not isinstance(document, dict):
        raise ValueError("the value is not a JSON object")
    for name, kind in (("vector", list), ("space", str), ("dimensions", int)):
        if not isinstance(document.get(name), kind):
            raise ValueError(f"{name!r} is missing or of the wrong type")
    id = document.get("id") if key is None else key
    if not isinstance(id, str):
        raise ValueError("neither a key nor an 'id' tells which event this is")
    check_id(id)
    # By way of float64: a number too large for float32 must fail the check of the length, not warn of an overflow.
    vector = np.asarray(document["vector"], np.float64)
    if vector.size and not np.abs(vector).max() < 2:
        raise ValueError("the vector holds numbers that no unit vector has")
    source, text, metadata = document.get("source"), document.get("text"), document.get("metadata")
    event = VectorEvent(
        id=id,
        vector=vector.astype(np.float32),
        space=document["space"],
        model=str(document.get("model", "")),
        source=None if source is None else read_source(source),
        text=text if isinstance(text, str) else None,
        metadata=metadata if isinstance(metadata, dict) else None,
        timestamp=record.timestamp,
        sketch=unpack(headers.get(SKETCH_HEADER, b"")),
        form=unpack_form(headers.get(FORM_HEADER, b"")),
        partition=record.tp.partition,
        offset=record.offset,
    )
    return _checked(event, document["dimensions"])


def _checked(event: VectorEvent, dimensions: int) -> VectorInput:
    if len(event.space) > LONGEST_NAME or len(event.model) > LONGEST_NAME:
        return Malformed(f"the name of a space or a model has more than {LONGEST_NAME} characters")
    if event.vector.shape != (dimensions,):
        return Malformed(f"{event.vector.size} numbers were sent as a vector of {dimensions} dimensions")
    return event


def _required(headers: Mapping[str, bytes], name: str) -> str:
    if name not in headers:
        raise ValueError(f"header {name} is missing")
    return headers[name].decode()


def _parse_source(source: str, timestamp: int) -> TextSource:
    place, _, offset = source.rpartition("/")
    # Nearly always, and several times as fast:
    if len(place) <= _LONGEST_PLACE and offset.isdecimal() and len(offset) < _OFFSET_DIGITS and 0 <= timestamp < 2**63:
        return TextSource(_partition_of(place), int(offset), timestamp)
    topic, partition, offset = source.rsplit("/", 2)
    return _source(topic, partition, offset, timestamp)


def are_sources(values: Iterable[bytes]) -> bool:
    """Whether each of these headers is a source as a worker writes it, for a record with a time. Few that are not are
    sources nevertheless, and some of those raise ValueError."""
    parts = [value.rpartition(b"/") for value in values]
    offsets = [offset for _, _, offset in parts]
    if not all(map(bytes.isdigit, offsets)) or max(map(len, offsets), default=0) >= _OFFSET_DIGITS:
        return False
    places = [place.decode() for place in {place for place, _, _ in parts}]
    return all(len(place) <= _LONGEST_PLACE and _partition_of(place) for place in places)


@lru_cache(1024)
def _partition_of(place: str) -> TopicPartition:
    topic, partition = place.rsplit("/", 1)
    return _source(topic, partition, 0, None).tp


def read_source(source: Any) -> TextSource:
    """A `source` object of JSON. Raises ValueError when it is none."""
    if not isinstance(source, dict) or not {"topic", "partition", "offset"} <= source.keys():
        raise ValueError("'source' is not an object with topic, partition and offset")
    return _source(source["topic"], source["partition"], source["offset"], source.get("timestamp"))


def _source(topic: Any, partition: Any, offset: Any, timestamp: Any) -> TextSource:
    if not isinstance(topic, str) or len(topic) > _LONGEST_TOPIC:
        raise ValueError(f"the topic of 'source' is not a name of at most {_LONGEST_TOPIC} characters")
    tp = TopicPartition(topic, _integer("partition", partition, 31))
    when = None if timestamp is None else _integer("timestamp", timestamp, 63)
    return TextSource(tp, _integer("offset", offset, 63), when)


def _integer(name: str, value: Any, bits: int) -> int:
    number = int(value)
    if not -1 <= number < 2**bits:
        raise ValueError(f"the {name} of 'source' is beyond what Kafka has")
    return number
