"""A file that is replaced as a whole, on a real disk: interrupted, killed, full, contested."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import anyio
import anyio.lowlevel
import pytest

from streamer.adapters.child import dying_with_us
from streamer.adapters.snapshot_file import SnapshotFile

WRITER = """
import sys
from pathlib import Path
import anyio
from streamer.adapters.snapshot_file import SnapshotFile

async def main():
    async with SnapshotFile(Path(sys.argv[1])).replacing() as write:
        for _ in range(100):
            await write(b"new" * 100_000)
        print("halfway", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "index.snapshot"


def write(path: Path, *pieces: bytes, then: Callable[[], object] = lambda: None) -> None:
    """`then` is called within the block, behind the last piece."""

    async def replace() -> None:
        async with SnapshotFile(path).replacing() as write_piece:
            for piece in pieces:
                await write_piece(piece)
            then()
            await anyio.lowlevel.checkpoint()

    anyio.run(replace)


def files(path: Path) -> dict[str, bytes]:
    return {found.name: found.read_bytes() for found in path.parent.iterdir()}


def test_it_is_there_when_the_block_has_ended_and_alone(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SnapshotFile(path).open()
    before: dict[str, bytes] = {}
    for content in (b"first one", b"second", b""):
        write(path, content[:3], content[3:], then=lambda: before.update(files(path)))
        assert before.keys() <= {path.name, f"{path.name}.part"}
        assert before.get(path.name) != content
        with SnapshotFile(path).open() as file:
            assert file.read() == content
        assert files(path) == {path.name: content}


def test_it_is_on_the_disk_before_it_has_its_name_and_then_so_is_the_name(path: Path) -> None:
    calls: list[str] = []
    really_replace, really_sync = os.replace, os.fsync

    def replace(source: Path, target: Path) -> None:
        calls.append("replace")
        really_replace(source, target)

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        calls.append("folder" if stat.S_ISDIR(found.st_mode) else f"file of {found.st_size} bytes")
        really_sync(descriptor)

    with patch.object(os, "replace", replace), patch.object(os, "fsync", fsync):
        write(path, b"da", b"ta")
    assert calls == ["file of 4 bytes", "replace", "folder"]


@pytest.mark.parametrize("size", [5_000, 5_000_000], ids=["found when it is flushed", "found when it is written"])
def test_a_full_disk_leaves_the_old_one_and_no_rest(path: Path, size: int) -> None:
    write(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as near as one gets to a full disk without root
    try:
        with pytest.raises(OSError, match="File too large"):
            write(path, b"n" * size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(path) == {path.name: b"old"}
    write(path, b"new")
    assert files(path) == {path.name: b"new"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_at_the_end_leaves_the_old_one_and_no_rest(path: Path, step: str) -> None:
    write(path, b"old")
    with patch.object(os, step, side_effect=OSError("broken")), pytest.raises(OSError, match="broken"):
        write(path, b"new")
    assert files(path) == {path.name: b"old"}


def test_cancelled_it_leaves_the_old_one_and_no_rest(path: Path) -> None:
    write(path, b"old")

    async def cancelled() -> None:
        with anyio.CancelScope() as scope:
            async with SnapshotFile(path).replacing() as write_piece:
                await write_piece(b"new")
                scope.cancel()
                await anyio.lowlevel.checkpoint()

    anyio.run(cancelled)
    assert files(path) == {path.name: b"old"}


def test_killed_in_the_middle_it_leaves_the_old_one_and_the_next_one_succeeds(path: Path) -> None:
    write(path, b"old")
    command = dying_with_us([sys.executable, "-c", WRITER, str(path)])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"halfway\n"
        with pytest.raises(OSError, match=r"index\.snapshot\.part is being written by another process"):
            write(path, b"mine")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(files(path)["index.snapshot.part"]) > 20_000_000
    assert files(path)["index.snapshot"] == b"old"
    write(path, b"next")
    assert files(path) == {path.name: b"next"}


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        write(tmp_path / "file" / "index.snapshot", b"data")
