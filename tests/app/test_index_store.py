"""The database of vectors that the settings want, or why there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streamer.app.index_store import open_store
from streamer.core.vectors import Space
from streamer.errors import MissingExtra, Unreachable
from streamer.settings import Settings
from streamer.settings.index import IndexSettings

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
