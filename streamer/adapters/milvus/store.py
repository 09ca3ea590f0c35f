"""Vectors in Milvus: a file (Milvus Lite, in this process), a server, or a cluster.

Two collections: events by the hash of their id, and how far each partition is in the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import orjson
import structlog

from streamer.adapters.milvus import rows
from streamer.adapters.milvus.client import TYPES, connect, is_file, told
from streamer.core.vectors import Matrix, Space
from streamer.errors import ConfigurationError, Unreachable
from streamer.stores import Found, StoredEvent, StoredUpTo

log = structlog.get_logger(__name__)

_OWNER: Final = "owner"  # the key of the row that says whose events these are
_MOST_ROWS: Final = 16_384  # of one answer, as Milvus allows
_LATEST: Final = "Strong"  # all that was ever written; otherwise what is a few seconds old may be missing
# Rows that Milvus Lite has not put into its own files yet are searched one by one, in Python.
_LITE_ROWS: Final = 2_048
_LITE_BYTES: Final = 8 << 20
# A file is searched in this process, slowly where it is large: who gave up would ask for the same again.
_LITE_SECONDS: Final = 60.0
_HNSW: Final = {"M": 16, "efConstruction": 200}
_WIDTH: Final = 64  # of an HNSW search, at least


class MilvusStore:
    """A VectorStore. `name`: of the collection, less the space. `owner`: facts of the topic whose events it holds.

    `index_type`: FLAT searches exactly; HNSW and AUTOINDEX find nearly all of the nearest, in less time. `timeout`:
    seconds for each call, at least a minute for a file.
    """

    def __init__(
        self,
        uri: str,
        space: Space,
        owner: Mapping[str, str],
        *,
        name: str = "streamer",
        token: str = "",
        index_type: str = "FLAT",
        timeout: float = 10.0,
    ) -> None:
        self.collection = f"{name}_{space.id}"
        self._positions = f"{self.collection}_positions"
        self._uri = uri
        self._token = token
        self._space = space
        self._owner = dict(sorted(owner.items()))
        self._index_type = index_type
        self._timeout = max(timeout, _LITE_SECONDS) if is_file(uri) else timeout
        self._client: Any = None
        self._must_load = False
        self._unflushed = 0
        self._most_unflushed = max(64, min(_LITE_ROWS, _LITE_BYTES // (4 * space.dimensions)))

    def open(self) -> None:
        """Connect, and create the collections where they are missing. Raises Unreachable, and ConfigurationError where
        the collection is not of this topic and space."""
        self._client = connect(self._uri, self._token, self._timeout)
        with told(self._uri):
            if not self._client.has_collection(self.collection, timeout=self._timeout):
                self._create()
            self._load()
            found = self._client.get(self._positions, ids=[_OWNER], timeout=self._timeout, consistency_level=_LATEST)
            if not found:
                text = orjson.dumps(self._owner).decode()
                self._client.upsert(self._positions, [_position(_OWNER, -1, 0, text)], timeout=self._timeout)
                return
            owner = orjson.loads(found[0]["text"])
            fields = self._client.describe_collection(self.collection, timeout=self._timeout)["fields"]
            dimensions = next((int(field["params"]["dim"]) for field in fields if field["name"] == "vector"), None)
        # What a broker did not say differs from nothing.
        known = [(key, owner.get(key), ours) for key, ours in self._owner.items() if ours and owner.get(key)]
        differing = ", ".join(f"{key} {theirs!r} instead of {ours!r}" for key, theirs, ours in known if theirs != ours)
        if differing:
            raise ConfigurationError(
                f"the Milvus collection {self.collection!r} holds the events of another topic ({differing}): choose "
                "another index.milvus_collection, or drop this one"
            )
        if dimensions != self._space.dimensions or {field["name"] for field in fields} < {"key", *rows.FIELDS}:
            raise ConfigurationError(
                f"the Milvus collection {self.collection!r} has other fields than ours: choose another "
                "index.milvus_collection, or drop this one"
            )

    def _load(self) -> None:
        for name in (self.collection, self._positions):
            self._client.load_collection(name, timeout=self._timeout)
        self._must_load = False

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """A server that was started again may not have loaded its collections: after a failure it is told to."""
        with told(self._uri):
            if self._must_load:
                self._load()
            try:
                yield
            except BaseException:
                self._must_load = True
                raise

    def close(self) -> None:
        """Let go of the connection. A file stays open until the process ends: another store may use it."""
        if self._client is not None:
            with suppress(Unreachable), told(self._uri):
                self._client.close()
        self._client = None

    def _create(self) -> None:
        types, client = TYPES, self._client
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", types.VARCHAR, is_primary=True, max_length=rows.KEY_LENGTH)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=2)  # there must be one
        schema.add_field("position", types.INT64)
        schema.add_field("arrival", types.INT64)
        schema.add_field("text", types.VARCHAR, max_length=rows.LONGEST_TEXT)
        # First: where the next step fails, the next start begins anew.
        self._create_collection(self._positions, schema, "FLAT")
        client.load_collection(self._positions, timeout=self._timeout)
        # Of events that somebody has dropped. To take too many away costs a rebuild, to take too few loses events.
        client.delete(self._positions, filter="position >= 0", timeout=self._timeout)

        description = f"vector events of space {self._space.id}, model {self._space.model}"
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
        schema.add_field("key", types.VARCHAR, is_primary=True, max_length=rows.KEY_LENGTH)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=self._space.dimensions)
        for field in ("topic_partition", "topic_offset", "event_time", "arrival"):
            schema.add_field(field, types.INT64)
        for field in ("density", "surprise"):
            schema.add_field(field, types.FLOAT)
        for field in ("id", "first"):
            schema.add_field(field, types.VARCHAR, max_length=rows.LONGEST_ID)
        schema.add_field("judged", types.BOOL)
        schema.add_field("sketch", types.VARCHAR, max_length=rows.LONGEST_SKETCH)
        schema.add_field("form", types.VARCHAR, max_length=rows.LONGEST_FORM)
        schema.add_field("text", types.VARCHAR, max_length=rows.LONGEST_TEXT, nullable=True)
        schema.add_field("metadata", types.JSON, nullable=True)
        self._create_collection(self.collection, schema, self._index_type)
        log.info("Milvus collection created", collection=self.collection, index=self._index_type)

    def _create_collection(self, name: str, schema: Any, index_type: str) -> None:
        indexes = self._client.prepare_index_params()
        options = {"params": _HNSW} if index_type == "HNSW" else {}
        indexes.add_index("vector", index_type=index_type, metric_type="IP", **options)
        if not is_file(self._uri) and name == self.collection:
            for field in ("event_time", "arrival"):
                indexes.add_index(field, index_type="INVERTED")
        self._client.create_collection(
            name, schema=schema, index_params=indexes, consistency_level="Bounded", timeout=self._timeout
        )

    def search(self, queries: Matrix, k: int, before: int | None = None) -> Sequence[Sequence[Found]]:
        """See VectorStore. Cosines as Milvus computes them, in single precision."""
        with self._asked():
            found = self._client.search(
                self.collection,
                list(queries),
                limit=k,
                filter="" if before is None else f"arrival < {before}",
                output_fields=list(rows.FIELDS),
                search_params={"metric_type": "IP", "params": {"ef": max(_WIDTH, k)} if self._is_graph else {}},
                timeout=self._timeout,
            )
            answers = [
                [Found(rows.event_of(hit["entity"]), round(min(1.0, max(-1.0, hit["distance"])), 6)) for hit in hits]
                for hits in found
            ]
            if len(answers) != len(queries):
                raise ValueError(f"{len(answers)} answers to {len(queries)} queries")
        return answers

    @property
    def _is_graph(self) -> bool:
        return self._index_type == "HNSW"

    def get(self, ids: Sequence[str]) -> Sequence[StoredEvent]:
        """See VectorStore."""
        with self._asked():
            keys = [rows.key_of(id) for id in ids]
            fields = ["vector", *rows.FIELDS]
            found = self._client.get(self.collection, ids=keys, output_fields=fields, timeout=self._timeout)
            return [rows.event_of(row) for row in found]

    def latest(self, since: int) -> Sequence[StoredEvent]:
        """See VectorStore."""
        with self._asked():
            found = self._client.query(
                self.collection,
                filter=f"arrival >= {since}",
                output_fields=["vector", *rows.FIELDS],
                limit=_MOST_ROWS,
                timeout=self._timeout,
                consistency_level=_LATEST,
            )
            return sorted((rows.event_of(row) for row in found), key=lambda event: event.arrival)

    def upsert(self, events: Sequence[StoredEvent]) -> None:
        """See VectorStore."""
        written = [rows.row_of(event) for event in events]
        with self._asked():
            self._client.upsert(self.collection, written, timeout=self._timeout)
            self._unflushed += len(events)
            if is_file(self._uri) and self._unflushed >= self._most_unflushed:
                self._client.flush(self.collection, timeout=6 * self._timeout)
                self._unflushed = 0

    def delete(self, ids: Sequence[str]) -> None:
        """See VectorStore."""
        with self._asked():
            self._client.delete(self.collection, ids=[rows.key_of(id) for id in ids], timeout=self._timeout)

    def drop(self, *, before_time: int | None = None, before_arrival: int | None = None) -> None:
        """See VectorStore."""
        conditions = [("event_time", before_time), ("arrival", before_arrival)]
        wanted = " or ".join(f"{field} < {value}" for field, value in conditions if value is not None)
        with self._asked():
            if wanted:
                self._client.delete(self.collection, filter=wanted, timeout=6 * self._timeout)

    def count(self, before_arrival: int | None = None) -> int:
        """See VectorStore."""
        with self._asked():
            found = self._client.query(
                self.collection,
                filter="" if before_arrival is None else f"arrival < {before_arrival}",
                output_fields=["count(*)"],
                timeout=self._timeout,
                consistency_level=_LATEST,
            )
            return int(found[0]["count(*)"])

    def positions(self) -> Mapping[int, StoredUpTo]:
        """See VectorStore."""
        with self._asked():
            found = self._client.query(
                self._positions,
                filter="position >= 0",
                output_fields=["key", "position", "arrival"],
                limit=_MOST_ROWS,
                timeout=self._timeout,
                consistency_level=_LATEST,
            )
            return {int(row["key"]): StoredUpTo(int(row["position"]), int(row["arrival"])) for row in found}

    def save_positions(self, positions: Mapping[int, StoredUpTo]) -> None:
        """See VectorStore."""
        saved = [_position(str(partition), each.offset, each.arrival) for partition, each in positions.items()]
        with self._asked():
            if saved:
                self._client.upsert(self._positions, saved, timeout=self._timeout)


def _position(key: str, position: int, arrival: int, text: str = "") -> dict[str, Any]:
    return {"key": key, "vector": [1.0, 0.0], "position": position, "arrival": arrival, "text": text}
