"""`streamer publish`: texts from a file or standard input to the text topic."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import anyio
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from streamer.app.kafka import open_sink
from streamer.core.encoding import message_bytes
from streamer.core.events import Message
from streamer.errors import ConfigurationError
from streamer.settings import Settings

FORMATS = ("auto", "text", "jsonl", "csv")
CHUNK = 500
PATIENCE = 60.0


def read_messages(
    stream: IO[str], name: str, format_: str, topic: str, *, key_field: str | None, text_field: str
) -> Iterator[Message]:
    """One message a line (or CSV row). Raises ConfigurationError naming file and line where one cannot be read.

    `jsonl` lines are sent as they are; a CSV row becomes a JSON object of its columns; `text` lines are sent as text.
    """
    if format_ == "csv":
        yield from _read_csv(stream, name, topic, key_field, text_field)
        return
    for number, raw in enumerate(stream, 1):
        line = raw.rstrip("\r\n")
        if not line:
            continue
        key = None
        if format_ == "jsonl" and key_field:
            try:
                value = orjson.loads(line).get(key_field)
            except (orjson.JSONDecodeError, AttributeError) as exc:
                raise ConfigurationError(
                    f"{name}:{number}: not a JSON object, so it has no {key_field!r}: {exc}"
                ) from exc
            key = None if value is None else str(value).encode()
        yield Message(topic, key, line.encode(), ())


def _read_csv(stream: IO[str], name: str, topic: str, key_field: str | None, text_field: str) -> Iterator[Message]:
    rows = csv.DictReader(stream)
    columns = rows.fieldnames or []
    for wanted in (text_field, key_field):
        if wanted and wanted not in columns:
            raise ConfigurationError(
                f"{name}: no column {wanted!r}; its first line has {', '.join(columns) or 'nothing'}"
            )
    for row in rows:
        if None in row:
            raise ConfigurationError(f"{name}:{rows.line_num}: more values than columns")
        key = row[key_field].encode() if key_field and row[key_field] is not None else None
        yield Message(topic, key, orjson.dumps(row), ())


async def publish(
    settings: Settings, path: Path | None, format_: str, *, topic: str | None, key_field: str | None, rate: float
) -> int:
    """Publish everything; returns how many messages were acknowledged. `rate`: messages per second, 0 for no limit."""
    topic = topic or _only_input(settings)
    name = str(path) if path else "standard input"
    chosen = _format_of(path) if format_ == "auto" else format_
    with ExitStack() as stack:
        try:
            stream: IO[str] = stack.enter_context(path.open(encoding="utf-8", newline="")) if path else sys.stdin
        except OSError as exc:
            raise ConfigurationError(f"{name} cannot be read: {exc.strerror}") from exc
        total = path.stat().st_size if path else None
        progress = stack.enter_context(_progress())
        task = progress.add_task(f"publishing to {topic}", total=total, sent=0)
        messages = read_messages(stream, name, chosen, topic, key_field=key_field, text_field=settings.input.text_field)
        sent = 0
        started = time.monotonic()
        async with open_sink(settings, give_up_after=PATIENCE) as sink:
            while chunk := _take(messages, min(CHUNK, max(1, int(rate))) if rate else CHUNK, settings, name):
                acknowledged = await sink.send(chunk)
                await acknowledged()
                sent += len(chunk)
                progress.update(task, advance=sum(len(m.value or b"") + 1 for m in chunk), sent=sent)
                if rate:
                    await anyio.sleep(max(0.0, started + sent / rate - time.monotonic()))
    return sent


def _take(messages: Iterator[Message], count: int, settings: Settings, name: str) -> list[Message]:
    chunk = []
    try:
        for message in messages:
            if message_bytes(message) > settings.kafka.max_message_bytes:
                raise ConfigurationError(
                    f"{name}: a line exceeds kafka.max_message_bytes ({settings.kafka.max_message_bytes})"
                )
            chunk.append(message)
            if len(chunk) == count:
                break
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{name} is not UTF-8: {exc}") from exc
    return chunk


def _only_input(settings: Settings) -> str:
    if len(settings.topics.inputs) != 1:
        raise ConfigurationError("topics.input is not one topic; say which with --topic")
    return settings.topics.inputs[0]


def _format_of(path: Path | None) -> str:
    formats = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
    return formats.get(path.suffix.lower(), "text") if path else "text"


def _progress() -> Progress:
    console = Console(stderr=True)
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[sent]} messages")]
    return Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal, transient=True)
