"""The dashboard's memory on disk."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from streamer.adapters.snapshot_file import SnapshotFile
from streamer.app.kept_history import KeptHistory
from streamer.http.history import History
from streamer.indexer.recent import KINDS, RecentVerdicts
from tests.indexer.verdict_samples import verdict

pytestmark = pytest.mark.anyio


def of(path: Path) -> tuple[KeptHistory, History, RecentVerdicts]:
    history, recent = History(), RecentVerdicts()
    return KeptHistory(SnapshotFile(path), "s", history, recent), history, recent


async def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    kept, history, recent = of(tmp_path / "folder" / "history")
    history.add(100, {"events": 3.0})
    recent.add([verdict("a", "anomaly")], 5)
    await kept.save()
    assert b"text" not in (tmp_path / "folder" / "history").read_bytes().replace(b"texts", b"")
    again, history, recent = of(tmp_path / "folder" / "history")
    await again.load()
    assert history.latest() == {"events": 3.0}
    assert [each.verdict.id for each in recent.after(0, KINDS, 9)] == ["a"]


async def test_without_a_file_it_begins_with_nothing(tmp_path: Path, logs: list[MutableMapping[str, Any]]) -> None:
    kept, history, _ = of(tmp_path / "none")
    await kept.load()
    assert history.latest() == {}
    assert logs == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}', b'{"format": 1, "history": 3}']
)
async def test_what_cannot_be_read_is_a_line_in_the_log(
    content: bytes, tmp_path: Path, logs: list[MutableMapping[str, Any]]
) -> None:
    (tmp_path / "history").write_bytes(content)
    kept, history, _ = of(tmp_path / "history")
    await kept.load()
    assert history.latest() == {}
    assert [line["event"] for line in logs] == ["history of the dashboard ignored"]


async def test_what_cannot_be_written_is_one_too(tmp_path: Path, logs: list[MutableMapping[str, Any]]) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept, _, _ = of(tmp_path / "file" / "history")
    await kept.save()
    assert [line["event"] for line in logs] == ["history of the dashboard not saved"]
