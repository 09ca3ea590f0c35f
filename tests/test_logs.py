"""How log lines look, which of them are only counted, and what becomes of them when they cannot be written."""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from streamer.errors import ConfigurationError, quoted
from streamer.logs import close_logs, configure_logs
from streamer.logs.lines import Lines, Stream
from streamer.logs.render import console_line, json_line
from tests.support.log_setup import logs_as_they_were

log = structlog.get_logger("streamer.part")
theirs = logging.getLogger("aiokafka.conn")


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    with logs_as_they_were():
        yield


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """What has been written since the last call."""
    return lambda: [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]


Told = Callable[[], list[dict[str, Any]]]


def test_a_line_is_one_json_object(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """First hour R3."""
    configure_logs()
    log.info("worker started", port=8081, partitions=["texts/0", "texts/1"], odd="a\nb \ud800")
    text = capsys.readouterr().err
    line = orjson.loads(text)
    assert text.count("\n") == 1
    assert list(line) == ["timestamp", "level", "event", "logger", "port", "partitions", "odd"]
    assert line["partitions"] == ["texts/0", "texts/1"]
    assert (line["level"], line["event"], line["logger"]) == ("info", "worker started", "streamer.part")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])


def test_libraries_write_lines_of_the_same_shape(told: Told) -> None:
    configure_logs()
    theirs.warning("connection to %s lost", "broker-1")
    theirs.info("not said")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old spelling", DeprecationWarning, stacklevel=1)
    first, second = told()
    assert list(first) == ["timestamp", "level", "event", "logger"]
    assert (first["level"], first["event"], first["logger"]) == ("warning", "connection to broker-1 lost", theirs.name)
    assert (second["logger"], "old spelling" in second["event"]) == ("py.warnings", True)


def test_a_request_that_a_stop_cuts_short_is_no_fault_with_a_traceback(told: Told) -> None:
    configure_logs()
    server = logging.getLogger("uvicorn.error")
    server.error("Exception in ASGI application\n", exc_info=CancelledError("timeout graceful shutdown exceeded"))
    assert told() == []
    server.error("Exception in ASGI application\n", exc_info=ValueError("odd"))
    assert [line["event"] for line in told()] == ["Exception in ASGI application"]


@pytest.mark.parametrize(
    ("level", "ours", "libraries"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["info", "warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("warning", ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_levels(told: Told, level: Any, ours: list[str], libraries: list[str]) -> None:
    """First hour R3."""
    configure_logs(level=level)
    theirs.setLevel(logging.DEBUG)  # as some libraries do on their own
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("a line")
    assert [line["level"] for line in told()] == ours
    for name in ("debug", "info", "warning", "error"):
        getattr(theirs, name)("a line")
    theirs.setLevel(logging.NOTSET)
    assert [line["level"] for line in told()] == libraries


# ------------------------------------------------------------------------------------------------------- the console


def test_the_console_wraps_at_words() -> None:
    """First hour R3."""
    path = "/var/lib/streamer/" + "long-" * 16 + "name.sqlite"
    line = {
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "level": "warning",
        "event": "cache unavailable",
        "logger": "streamer.part",
        "reason": "the disk is full and nothing can be written any more until somebody makes room on it again",
        "path": path,
        "partitions": ["texts/0", "texts/1"],
    }
    text = console_line(line, 100, color=False)
    first, *more = text.splitlines()
    assert first.startswith("03:04:05 warning  cache unavailable  reason=")
    assert all(row.startswith(" " * 18) for row in more)
    assert all(len(row) < 100 or row.strip() == f"path={path}" for row in (first, *more))
    assert " ".join(text.split()) == " ".join(console_line(line, 10_000, color=False).split())
    assert "partitions=texts/0, texts/1" in text


def test_colors_change_no_word() -> None:
    line = {"timestamp": "2026-01-02T03:04:05Z", "level": "error", "event": "no answer", "reason": "port 1", "n": 2}
    colored = console_line(line, 60, color=True)
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == console_line(line, 60, color=False)


def test_a_traceback_follows_the_line_on_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(format="console")
    try:
        raise ConfigurationError("wrong")
    except ConfigurationError:
        log.exception("a part failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("a part failed")
    assert rest[-1] == "ConfigurationError: wrong"


# ------------------------------------------------------------------------------------------------------- repeats


class Clocked:
    """Lines with a clock that the test sets, and what was written."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[dict[str, Any]] = []
        self.lines = Lines(Stream(sys.stderr), json_line, interval=1000.0, clock=lambda: self.now)
        self.lines._write = lambda text: self.written.append(orjson.loads(text))  # type: ignore[method-assign]

    def tell(self, level: str, event: str, **facts: Any) -> None:
        try:
            text = self.lines(None, level, {"level": level, "event": event, "logger": "streamer.part", **facts})
        except structlog.DropEvent:
            return
        self.lines._write(text)


@pytest.fixture
def clocked() -> Iterator[Clocked]:
    clocked = Clocked()
    yield clocked
    clocked.lines.close()


def test_a_thousand_equal_dead_letters_are_one_line_at_once_and_one_later(clocked: Clocked) -> None:
    """First hour R3."""
    for offset in range(1_000):
        reason = f"not JSON: unexpected end at column {offset}"
        clocked.tell("warning", "dead letter", kind="undecodable", source=f"texts/{offset % 3}/{offset}", reason=reason)
    (line,) = clocked.written
    assert (line["source"], line["reason"]) == ("texts/0/0", "not JSON: unexpected end at column 0")
    clocked.tell("warning", "dead letter", kind="missing_text", source="texts/0/1000", reason="no text at 'text'")
    assert clocked.written[1]["kind"] == "missing_text"
    clocked.now = 1000.0
    clocked.lines.tell_repeats()
    (summary,) = clocked.written[2:]
    assert (summary["event"], summary["count"], summary["source"], summary["kind"]) == (
        "dead letter (repeated)",
        999,
        "texts/0/999",
        "undecodable",
    )


def test_lines_that_say_something_else_are_all_written(clocked: Clocked) -> None:
    for partition in ("texts/0", "texts/1"):
        clocked.tell("error", "partition cannot be read", partition=partition, offset=5)
    for name in ("a", "a"):
        clocked.tell("info", "topic created", topic=name)
    assert len(clocked.written) == 4


def test_the_end_tells_what_was_counted(told: Told) -> None:
    configure_logs()
    for attempt in range(3):
        log.warning("offsets not committed", reason="no answer", attempt=attempt)
        theirs.error("no answer from %s, attempt %d", "broker-1", attempt)
    assert [(line["event"], line.get("count")) for line in told()] == [
        ("offsets not committed", None),
        ("no answer from broker-1, attempt 0", None),
    ]
    close_logs()
    assert [(line["event"], line["count"]) for line in told()] == [
        ("offsets not committed (repeated)", 2),
        ("no answer from broker-1, attempt 2 (repeated)", 2),
    ]
    close_logs()
    assert told() == []


def test_a_timer_tells_what_was_counted() -> None:
    clocked, told = Clocked(), threading.Event()
    clocked.lines = Lines(Stream(sys.stderr), json_line, interval=0.01, clock=lambda: clocked.now)

    def write(text: str) -> None:
        clocked.written.append(orjson.loads(text))
        if len(clocked.written) == 2:
            told.set()

    clocked.lines._write = write  # type: ignore[method-assign]
    clocked.tell("warning", "dead letter", source="texts/0/1")
    clocked.tell("warning", "dead letter", source="texts/0/2")
    clocked.now = 1.0
    assert told.wait(10)
    assert (clocked.written[1]["count"], clocked.written[1]["source"]) == (1, "texts/0/2")
    clocked.lines.close()


# ------------------------------------------------------------------------------------------------------- privacy

TEXT = "the parcel for Anna Karlsson"
SECRET = 'sk-"quoted"-key'


def test_words_of_others_and_secrets_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="debug", secrets=[SECRET, "abc"])
    error = ValueError(f"could not convert string to float: {TEXT}")
    log.warning("dead letter", reason=f"openai answered 400: {quoted(f'bad “input”: {TEXT}')[:-4]}", kind="rejected")
    log.info("asked", header=f"Bearer {SECRET}", word="abc", many=[quoted(TEXT)])
    theirs.error("failed: %s", error)
    theirs.error("failed: %r", error)
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task exception=%s>", repr(error))
    theirs.debug("Produced %s", TEXT)
    try:
        try:
            raise error
        except ValueError as exc:
            raise ConfigurationError(f"wrong: {quoted(TEXT)}") from exc
    except ConfigurationError:
        log.exception("a part failed")
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    written = capsys.readouterr().err
    lines = [orjson.loads(line) for line in written.splitlines()]
    assert "Karlsson" not in written
    assert SECRET not in written
    assert SECRET not in "".join(map(str, lines))
    assert len(lines) == 7
    assert (lines[0]["reason"], lines[1]["word"]) == ("openai answered 400: “…”", "abc")
    assert "ValueError: (its text may quote a record" in lines[6]["exception"]
    assert "ConfigurationError: wrong: “…”" in lines[6]["exception"]
    assert __file__ in lines[6]["exception"]


def test_texts_are_shown_where_they_are_wanted(told: Told) -> None:
    configure_logs(level="debug", include_texts=True, secrets=[SECRET])
    log.warning("dead letter", reason=quoted(TEXT))
    theirs.debug("Produced %s with %s", TEXT, SECRET)
    first, second = told()
    assert first["reason"] == f"“{TEXT}”"
    assert second["event"] == f"Produced {TEXT} with [redacted]"


# ------------------------------------------------------------------------------------------------------- no way out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no file that is always full")
def test_a_full_disk_does_not_end_what_there_is_something_to_say_about(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115 - closed below, which fails as well
    monkeypatch.setattr(sys, "stderr", full)
    configure_logs()
    for _ in range(3):
        log.info("worker started", text="x" * 10_000)
        theirs.warning("connection lost")
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space"):
        full.close()
