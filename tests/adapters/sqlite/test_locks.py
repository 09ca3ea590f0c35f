"""The lock file: shared or alone, byte by byte, and what becomes of it when it is deleted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from streamer.adapters.sqlite import locks
from streamer.adapters.sqlite.locks import TURN, LockFile, why_not_shared

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux has these locks")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.sqlite.lock"


def test_users_share_it_or_one_has_it_alone(path: Path) -> None:
    first, second = LockFile(path), LockFile(path)
    assert first.hold(shared=True)
    assert second.hold(shared=True)
    second.release()
    assert not second.hold(shared=False)
    first.release()
    assert second.hold(shared=False)
    assert not first.hold(shared=True)
    assert first.holder() == str(os.getpid())
    second.release()


def test_a_byte_is_locked_by_one_until_it_unlocks_it_or_lets_go_of_the_file(path: Path) -> None:
    first, second = LockFile(path), LockFile(path)
    for user in (first, second):
        user.hold(shared=True)
    assert first.lock(TURN)
    assert not second.lock(TURN)
    assert second.lock(TURN + 1)
    first.unlock(TURN)
    assert second.lock(TURN)
    second.release()
    assert first.lock(TURN)
    second.unlock(TURN)  # it has no file any more: no harm
    with pytest.raises(OSError, match="no lock file is open"):
        second.lock(TURN)
    first.release()


def test_a_deleted_file_is_not_held(path: Path) -> None:
    lock = LockFile(path)
    assert not lock.is_held()
    lock.hold(shared=True)
    assert lock.is_held()
    path.unlink()
    assert not lock.is_held()
    path.touch()
    assert not lock.is_held()
    lock.release()


def test_what_is_written_is_read_with_zeros_after_it(path: Path) -> None:
    lock, other = LockFile(path), LockFile(path)
    for user in (lock, other):
        user.hold(shared=True)
    lock.write(100, b"abc")
    assert other.read(99, 6) == b"\0abc\0\0"
    for user in (lock, other):
        user.release()


def test_a_system_without_these_locks_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_shared(path) is None
    holder = LockFile(path)
    holder.hold(shared=True)
    assert holder.lock(locks.PROBE)
    assert why_not_shared(path) is None  # another one asks at this moment
    holder.release()
    monkeypatch.setattr(locks, "SET_LOCK", 999_999)
    assert "its file system lacks the locks for it" in (why_not_shared(path) or "")
    monkeypatch.setattr(locks, "SET_LOCK", None)
    assert why_not_shared(path) == "linux lacks the locks for it"
