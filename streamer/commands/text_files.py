"""The rows of a file or of standard input: plain lines, JSON lines, a JSON document or CSV, as people's files are.

A byte order mark, Windows line ends, gzip and UTF-16 with a mark are understood. What cannot be read is a BadRow with
its number; the rows after it are still there.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO, Any

from streamer.commands.file_format import FileFormat
from streamer.commands.json_rows import begins_like_json, json_rows
from streamer.commands.rows import AnyRow, BadRow, Row, lines_of, undecodable
from streamer.core.reading import binary_name
from streamer.errors import ConfigurationError

SUFFIXES = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
DELIMITERS = (",", ";", "\t", "|")
LARGEST_FIELD = 16_777_216  # characters; a quote that is never closed must not take the memory of the machine


class TextFile:
    """An open file. `size` and `read` are bytes, compressed if it is; `size` is None for standard input."""

    def __init__(
        self, name: str, raw: IO[bytes], text: io.TextIOWrapper, format_: FileFormat, size: int | None
    ) -> None:
        self.name = name
        self.size = size
        self._raw = raw
        self._text = text
        self._format = format_

    @property
    def read(self) -> int:
        return self._raw.tell() if self.size is not None else 0

    def rows(self) -> Iterator[AnyRow]:
        """In order; blank lines are left out. Raises ConfigurationError where there is no way to go on."""
        try:
            if self._format.kind == "csv":
                yield from _csv_rows(self._text, self.name, self._format)
                return
            number, first = next(lines_of(self._text), (1, ""))
            if self._format.kind == "jsonl" or (self._format.kind == "auto" and begins_like_json(first)):
                yield from json_rows(number, first, self._text)
            else:
                lines = chain([(number, first)] if first else [], lines_of(self._text, number + 1))
                yield from (_checked(place, line.rstrip("\r\n")) for place, line in lines)
        except UnicodeDecodeError as exc:
            raise ConfigurationError(f"{self.name} is not {exc.encoding}: {exc.reason}; see --encoding") from exc
        except (OSError, EOFError, zlib.error) as exc:
            raise ConfigurationError(f"{self.name} cannot be read to its end: {exc}") from exc


@contextmanager
def open_text_file(path: Path | None, format_: FileFormat) -> Iterator[TextFile]:
    """None: standard input. Raises ConfigurationError when the file cannot be opened."""
    name = str(path) if path else "standard input"
    with ExitStack() as stack:
        try:
            raw: Any = stack.enter_context(path.open("rb")) if path else sys.stdin.buffer
            size = path.stat().st_size if path and path.is_file() else None  # a pipe has none, and no place to tell
            start = raw.peek(8)[:8]
        except OSError as exc:
            raise ConfigurationError(f"{name} cannot be read: {exc.strerror}") from exc
        source = raw
        if start.startswith(b"\x1f\x8b"):
            source = stack.enter_context(gzip.open(raw))
            try:
                start = source.peek(8)[:8]
            except (OSError, EOFError) as exc:
                raise ConfigurationError(f"{name} cannot be read: {exc}") from exc
        if (binary := binary_name(start)) is not None:
            advice = "save it as CSV or JSON lines" if "data" not in binary else "decompress it first"
            raise ConfigurationError(f"{name} is {binary}, not text: {advice}")
        chosen = _chosen(path, format_)
        marked = chosen.encoding is None and start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        encoding = "utf-16" if marked else codecs.lookup(chosen.encoding or "utf-8").name
        text = io.TextIOWrapper(
            source,
            encoding="utf-8-sig" if encoding == "utf-8" else encoding,
            # Bytes that are not of the encoding become lone surrogates: their line is bad, and has a number.
            errors="surrogateescape",
            newline="" if chosen.kind == "csv" else None,
        )
        try:
            yield TextFile(name, raw, text, chosen, size)
        finally:
            text.detach()  # or it would close standard input


def _chosen(path: Path | None, format_: FileFormat) -> FileFormat:
    """The format that the file's name tells, where none is given; auto if its first line has to."""
    suffixes = [suffix.lower() for suffix in path.suffixes] if path else []
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    is_csv = format_.columns is not None or format_.delimiter is not None
    kind = format_.kind if format_.kind != "auto" else "csv" if is_csv else SUFFIXES.get(suffix, "auto")
    delimiter = format_.delimiter or ("\t" if suffix in (".tsv", ".tab") else None)
    return replace(format_, kind=kind, delimiter=delimiter)


def _checked(number: int, line: str) -> AnyRow:
    reason = undecodable(line)
    return Row(number, line) if reason is None else BadRow(number, reason)


def _csv_rows(text: IO[str], name: str, format_: FileFormat) -> Iterator[AnyRow]:
    csv.field_size_limit(LARGEST_FIELD)
    number, opening = next(lines_of(text), (1, ""))
    delimiter = format_.delimiter or _delimiter_of(opening)
    lines = chain(["\n"] * (number - 1), [opening], text)  # blank lines again, so that the numbers are right
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if format_.quotes else csv.QUOTE_NONE, strict=True
    )
    columns = list(format_.columns) if format_.columns else _header(reader, name)
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as exc:
            yield BadRow(number, f"not CSV: {exc}; is a quote not closed? If quotes are plain characters: --no-quotes")
            continue
        if values is None:
            return
        if values:
            yield _csv_row(number, values, columns)


def _csv_row(number: int, values: list[str], columns: list[str]) -> AnyRow:
    reason = next(filter(None, map(undecodable, values)), None)
    while len(values) > len(columns) and not values[-1]:
        values.pop()  # of delimiters at the end, as spreadsheets leave them
    if reason is None and len(values) > len(columns):
        reason = f"{len(values)} values for {len(columns)} columns"
    if reason is not None:
        return BadRow(number, reason)
    return Row(number, {**dict.fromkeys(columns), **dict(zip(columns, values, strict=False))})


def _header(reader: Any, name: str) -> list[str]:
    try:
        columns = [column.strip() for column in next(filter(None, reader), [])]
        while columns and not columns[-1]:
            columns.pop()  # of delimiters at the end, as spreadsheets leave them
    except csv.Error as exc:
        raise ConfigurationError(f"{name}: its header is not CSV: {exc}") from exc
    if any(undecodable(column) for column in columns):
        raise ConfigurationError(f"{name}: its header is not UTF-8; see --encoding")
    twice = next((column for place, column in enumerate(columns) if column in columns[:place]), None)
    if twice is not None:
        raise ConfigurationError(f"{name}: its header has {twice!r} twice; name the columns with --columns")
    return columns


def _delimiter_of(line: str) -> str:
    """The one that makes the most fields of the first line."""
    return max(DELIMITERS, key=lambda delimiter: len(next(csv.reader([line], delimiter=delimiter), [])))
