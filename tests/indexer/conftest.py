"""Where an indexer's vectors may be kept: what it does must not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from streamer.core.vectors import Space
from streamer.indexer import state
from streamer.indexer.verdicts import judge
from streamer.stores import VectorStore
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


@pytest.fixture(scope="session")
def new_milvus(milvus_file: str) -> Callable[[Space], VectorStore]:
    """A store of its own, with nothing in it."""
    from streamer.adapters.milvus.store import MilvusStore

    def new(space: Space = indexing.SPACE) -> VectorStore:
        store = MilvusStore(milvus_file, space, {"topic": "vectors"}, name=f"test_{next(_numbers)}")
        store.open()
        return store

    return new


@pytest.fixture(params=["memory", "store", pytest.param("milvus", marks=pytest.mark.slow)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Topics and judges made in the test keep their vectors there, and numbers of vectors are never out of date."""
    name = getattr(request.node, "originalname", "")
    if request.param != "memory":
        if name in indexing.DIFFERENT:
            pytest.skip(indexing.DIFFERENT[name])
        for run in ("_RUN", "_RESTORED_RUN"):
            monkeypatch.setattr(judge, run, indexing.IN_MEMORY)
    monkeypatch.setattr(state, "_SAVED_EVERY", 0.0)
    if request.param == "store":
        monkeypatch.setattr(indexing, "new_store", lambda space=indexing.SPACE: MemoryStore())
    elif request.param == "milvus":
        monkeypatch.setattr(indexing, "new_store", request.getfixturevalue("new_milvus"))
    return str(request.param)
