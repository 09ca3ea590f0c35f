"""Where an indexer's vectors may be kept: what it does must not depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from streamer.indexer import state
from tests.support import indexing
from tests.support.memory_store import MemoryStore


@pytest.fixture(scope="session")
def milvus_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database of Milvus Lite, open for as long as the tests run."""
    pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")
    from streamer.adapters.milvus.store import MilvusStore

    path = str(tmp_path_factory.mktemp("milvus") / "tests.db")
    keeper = MilvusStore(path, indexing.SPACE, {}, name="keeper")
    keeper.open()
    yield path
    keeper.close()


_numbers = count()


@pytest.fixture(params=["memory", "store", pytest.param("milvus", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Topics made in the test keep their vectors there, and numbers of vectors are never out of date."""
    name = getattr(request.node, "originalname", "")
    if request.param != "memory" and name in indexing.DIFFERENT:
        pytest.skip(indexing.DIFFERENT[name])
    monkeypatch.setattr(state, "_SAVED_EVERY", 0.0)
    if request.param == "store":
        monkeypatch.setattr(indexing, "new_store", MemoryStore)
    elif request.param == "milvus":
        path = request.getfixturevalue("milvus_file")
        from streamer.adapters.milvus.store import MilvusStore

        def new_store() -> Any:
            store = MilvusStore(path, indexing.SPACE, {"topic": "vectors"}, name=f"test_{next(_numbers)}")
            store.open()
            return store

        monkeypatch.setattr(indexing, "new_store", new_store)
    return str(request.param)
