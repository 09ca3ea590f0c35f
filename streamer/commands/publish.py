"""`streamer publish`: texts from a file to the text topic, as workers with these settings read them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streamer.app.kafka import open_sink, require_topics
from streamer.commands.file_format import FileFormat
from streamer.commands.rows import AnyRow, BadRow, Row
from streamer.commands.text_files import open_text_file
from streamer.core.events import Headers, Message, message_bytes
from streamer.core.text_fields import key_at, move_text, put_text, text_at
from streamer.errors import ConfigurationError, StreamerError
from streamer.settings import Settings

CHUNK = 500
PATIENCE = 60.0

_TEXT: Headers = (("content-type", b"text/plain; charset=utf-8"),)
_JSON: Headers = (("content-type", b"application/json"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """What to publish and how. `text_field`: the file's, None if that is `input.text_field`. `rate`: messages per
    second, 0 for no limit."""

    format: FileFormat
    topic: str | None = None
    text_field: str | None = None
    key_field: str | None = None
    from_line: int = 1
    skip_bad: bool = False
    rate: float = 0


@dataclass(slots=True)
class Published:
    """Rows that are in the topic, rows that were passed over, and the first row that is neither."""

    messages: int = 0
    skipped: int = 0
    first_skipped: str = ""
    next_line: int = 1

    def __str__(self) -> str:
        skipped = f"; {self.skipped:,} skipped, the first is {self.first_skipped}" if self.skipped else ""
        return f"{self.messages:,} message{'' if self.messages == 1 else 's'} published{skipped}"


def message_of(row: Row, settings: Settings, topic: str, *, text_field: str | None, key_field: str | None) -> Message:
    """The record from which a worker with these settings gets the row's text. Raises ValueError with the reason."""
    target = settings.input.text_field
    if isinstance(row.content, str):
        if key_field:
            raise ValueError(f"a line of text has no field {key_field!r}")
        # In "auto" the worker goes by the content type, whatever the line looks like; in "json" it does not.
        if settings.input.format == "json":
            return Message(topic, None, orjson.dumps(put_text({}, target, row.content)), _JSON)
        return Message(topic, None, row.content.encode(), _TEXT)
    fields = move_text(row.content, row.path(text_field or target), target)
    named = key_at(row.content, row.path(key_field)) if key_field else None
    key = None if named is None else str(named).encode()
    if settings.input.format == "text":
        return Message(topic, key, text_at(fields, target).encode(), _TEXT)
    return Message(topic, key, orjson.dumps(fields), _JSON)


async def publish(settings: Settings, path: Path | None, wanted: Publishing) -> Published:
    """Publish everything. When it ends early, what is in the topic already is said on standard error."""
    topic = wanted.topic or _only_input(settings)
    done = Published(next_line=wanted.from_line)
    with ExitStack() as stack:
        file = stack.enter_context(open_text_file(path, wanted.format))
        progress = stack.enter_context(_progress())
        task = progress.add_task(f"publishing to {topic}", total=file.size, sent=0)
        messages = _messages(file.rows(), file.name, settings, topic, wanted, done)
        started = time.monotonic()
        count = min(CHUNK, max(1, int(wanted.rate))) if wanted.rate else CHUNK
        try:
            await require_topics(settings, [topic])
            async with open_sink(settings, give_up_after=PATIENCE) as sink:
                error: StreamerError | None = None
                while error is None:
                    chunk, next_line, error = _take(messages, count)
                    if not chunk:
                        break
                    acknowledged = await sink.send(chunk)
                    await acknowledged()
                    done.messages += len(chunk)
                    done.next_line = next_line
                    progress.update(task, completed=file.read, sent=done.messages)
                    if wanted.rate:
                        await anyio.sleep(max(0.0, started + done.messages / wanted.rate - time.monotonic()))
                if error is not None:
                    raise error
        except BaseException:
            if done.messages:
                print(f"{done}; to go on: --from-line {done.next_line}", file=sys.stderr)  # noqa: T201
            raise
    return done


def _messages(
    rows: Iterator[AnyRow], name: str, settings: Settings, topic: str, wanted: Publishing, done: Published
) -> Iterator[tuple[Message, int]]:
    """Messages with the numbers of their rows. Raises ConfigurationError at a bad row, unless those are skipped."""
    limit = settings.kafka.max_message_bytes
    for row in rows:
        if row.number < wanted.from_line:
            continue
        if isinstance(row, BadRow):
            reason = row.reason
        else:
            try:
                message = message_of(row, settings, topic, text_field=wanted.text_field, key_field=wanted.key_field)
            except (ValueError, TypeError, UnicodeEncodeError) as exc:
                reason = str(exc)
            else:
                if message_bytes(message) <= limit:
                    yield message, row.number
                    continue
                reason = f"{message_bytes(message):,} bytes, more than kafka.max_message_bytes = {limit}"
        if not wanted.skip_bad:
            raise ConfigurationError(f"{name}:{row.number}: {reason}")
        done.skipped += 1
        done.first_skipped = done.first_skipped or f"{name}:{row.number}: {reason}"


def _take(messages: Iterator[tuple[Message, int]], count: int) -> tuple[list[Message], int, StreamerError | None]:
    """The next messages, the line to go on from, and what ended them early: what came before a bad line is sent."""
    chunk: list[Message] = []
    last = 0
    try:
        for message, number in messages:
            chunk.append(message)
            last = number
            if len(chunk) == count:
                break
    except StreamerError as error:
        return chunk, last + 1, error
    return chunk, last + 1, None


def _only_input(settings: Settings) -> str:
    if len(settings.topics.inputs) != 1:
        raise ConfigurationError("topics.input is not one topic; say which with --topic")
    return settings.topics.inputs[0]


def _progress() -> Progress:
    console = Console(stderr=True)
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
    columns += [TextColumn("{task.fields[sent]:,} messages"), TimeElapsedColumn(), TimeRemainingColumn()]
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
