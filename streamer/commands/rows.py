"""Rows of a file, and what makes one bad."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Row:
    """A line of text, or the fields of a JSON object or CSV row. `number`: its line, or its place in a JSON array.
    `enveloped`: whether the fields were the payload of a Connect envelope."""

    number: int
    content: str | dict[str, Any]
    enveloped: bool = False

    def path(self, name: str) -> str:
        """The field's path in `content`: `payload.text` and `text` name the same field of an envelope."""
        return name.removeprefix("payload.") if self.enveloped else name


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that could not be read, and why."""

    number: int
    reason: str


AnyRow: TypeAlias = Row | BadRow


def lines_of(text: IO[str], first: int = 1) -> Iterator[tuple[int, str]]:
    """Those that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(text, first) if line.strip())


def undecodable(line: str) -> str | None:
    """Why a line is bad, if it has bytes that are not of the encoding."""
    place = next((place for place, character in enumerate(line) if "\udc80" <= character <= "\udcff"), None)
    if line.isascii() or place is None:
        return None
    return f"not UTF-8: byte 0x{ord(line[place]) - 0xDC00:02x} at character {place + 1}; see --encoding"
