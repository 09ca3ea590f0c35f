"""The store on a server in a process of its own, which is killed and started again."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from streamer.core.vectors import Space
from streamer.errors import Unreachable
from streamer.stores import StoredEvent, StoredUpTo

pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")

from streamer.adapters.milvus.store import MilvusStore
from tests.support.milvus_server import milvus_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SPACE = Space(provider="p", model="m", dimensions=2)
EVENT = StoredEvent(
    id="a",
    partition=0,
    offset=0,
    time=0,
    arrival=0,
    density=0.5,
    surprise=0.0,
    first=None,
    is_judged=True,
    vector=np.array([1, 0], np.float32),
)


def test_what_was_written_outlives_a_kill_and_the_store_finds_its_way_back(tmp_path: Path) -> None:
    with milvus_server(tmp_path) as server:
        store, other = (MilvusStore(server.uri, SPACE, {"topic": "vectors"}, timeout=2.0) for _ in range(2))
        store.open()
        store.upsert([EVENT])
        store.save_positions({0: StoredUpTo(1, 1)})
        other.open()
        assert other.count() == 1, "the collection is there already"
        other.close()
        server.kill()
        with pytest.raises(Unreachable, match=server.uri):
            store.count()
        server.start()
        deadline = time.monotonic() + 90
        while True:
            try:
                found = store.search(np.array([[1, 0]], np.float32), 1)
                break
            except Unreachable:  # its client waits longer and longer between two attempts
                assert time.monotonic() < deadline
        assert [each.event.id for each in found[0]] == ["a"]
        assert store.positions() == {0: StoredUpTo(1, 1)}
        store.close()
