"""What is logged, and what becomes of it when it cannot be written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from streamer.logs import Repeats, configure_logs


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_a_line_names_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    structlog.get_logger("streamer").info("worker started", port=8081)
    logging.getLogger("aiokafka").warning("connection lost")
    ours, theirs = capsys.readouterr().err.splitlines()
    assert 'event="worker started" port=8081' in ours
    assert 'level=warning event="connection lost"' in theirs


def test_what_a_library_says_over_and_over_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    configure_logs()
    (handler,) = logging.root.handlers
    handler.filters[:] = [Repeats(10.0, lambda: now)]
    for second in range(12):
        now = float(second)
        logging.getLogger("aiokafka.conn").error("no answer from %s, attempt %d", "broker-1", second)
        logging.getLogger("aiokafka.conn").error("another matter")
        logging.getLogger("streamer.kafka").warning("ours are few, and all of them matter")
    lines = capsys.readouterr().err.splitlines()
    assert sum("ours are few" in line for line in lines) == 12
    told = [line for line in lines if "no answer" in line]
    assert ["attempt 0" in told[0], "attempt 10 (9 more like this since the last)" in told[1], len(told)] == [
        True,
        True,
        2,
    ]
    assert sum("another matter" in line for line in lines) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_full_disk_does_not_end_what_there_is_something_to_say_about(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115 - closed below, which fails as well
    monkeypatch.setattr(sys, "stderr", full)
    configure_logs()
    for _ in range(3):
        structlog.get_logger("streamer").info("worker started", text="x" * 10_000)
        logging.getLogger("aiokafka").warning("connection lost")
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space"):
        full.close()
