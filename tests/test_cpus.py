"""How many cores there are to use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer import cpus
from streamer.cpus import usable_cores


@pytest.fixture(autouse=True)
def quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a container finds its limit; there is none at first."""
    path = tmp_path / "cpu.max"
    monkeypatch.setattr(cpus, "QUOTA", path)
    return path


def test_cores_that_this_process_may_not_use_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cores() == 3


@pytest.mark.parametrize(("counted", "expected"), [(8, 8), (None, 1)])
def test_where_that_is_not_told_the_machines_cores_count(
    monkeypatch: pytest.MonkeyPatch, counted: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert usable_cores() == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("5000 100000\n", 1),
        ("6400000 100000\n", 4),  # more than there are
        ("max 100000\n", 4),
        ("", 4),
        ("100000 0\n", 4),
    ],
)
def test_a_container_has_the_cores_that_its_limit_is_worth(
    monkeypatch: pytest.MonkeyPatch, quota: Path, limit: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    quota.write_text(limit)
    assert usable_cores() == expected
