"""The database of vectors that the settings want, or why there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streamer.app.index_store import look_at_store, open_store
from streamer.core.vectors import Space
from streamer.errors import MissingExtra, Unreachable
from streamer.settings import Settings
from streamer.settings.index import IndexSettings
from tests.support.milvus_server import milvus_server

pytestmark = pytest.mark.anyio

SPACE = Space(provider="p", model="m", dimensions=2)


async def test_memory_needs_none() -> None:
    async with open_store(Settings(), SPACE, "c") as store:
        assert store is None


async def test_without_the_package_it_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith("streamer.adapters.milvus."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(MissingExtra, match=r"embedding-streamer\[milvus\]"):
        async with open_store(Settings(index=IndexSettings(backend="milvus")), SPACE, "c"):
            pass


@pytest.mark.slow
async def test_a_file_is_let_go_at_the_end_and_an_address_nobody_listens_at_is_told(tmp_path: Path) -> None:
    pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")
    index = IndexSettings(backend="milvus", milvus_uri=str(tmp_path / "index.db"))
    for _ in range(2):
        async with open_store(Settings(index=index), SPACE, None) as store:
            assert store is not None
            assert store.count() == 0
    nowhere = IndexSettings(backend="milvus", milvus_uri="http://user:pw@127.0.0.1:1", milvus_timeout_ms=1000)
    with pytest.raises(Unreachable, match=r"Milvus at http://\*\*\*@127\.0\.0\.1:1: "):
        async with open_store(Settings(index=nowhere), SPACE, None):
            pass


async def test_a_file_is_looked_for_and_not_opened(tmp_path: Path) -> None:
    pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")
    file = tmp_path / "index.db"
    settings = Settings(index=IndexSettings(backend="milvus", milvus_uri=str(file)))
    assert await look_at_store(settings) == f"{file} will be created"
    assert not file.exists()
    file.write_bytes(b"another process has it")
    assert await look_at_store(settings) == f"{file} is there"


@pytest.mark.slow
async def test_a_server_tells_which_collections_are_ours(tmp_path: Path) -> None:
    pytest.importorskip("pymilvus", reason="make test-milvus brings it: 350 MB that nothing else needs")
    with milvus_server(tmp_path) as server:
        index = IndexSettings(backend="milvus", milvus_uri=server.uri)
        settings = Settings(index=index)
        assert await look_at_store(settings) == f"Milvus at {server.uri}: no collection yet; the indexer creates it"
        async with open_store(settings, SPACE, None) as store:
            assert store is not None
            assert store.collection in await look_at_store(settings)
    nowhere = IndexSettings(backend="milvus", milvus_uri="http://127.0.0.1:1", milvus_timeout_ms=1000)
    with pytest.raises(Unreachable, match=r"Milvus at http://127\.0\.0\.1:1: "):
        await look_at_store(Settings(index=nowhere))
