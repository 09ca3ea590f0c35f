"""What a terminal can show: what strangers wrote, and lines that are longer than it is wide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.text import Text

# C0, DEL and C1 may move the cursor, change colours or the window's title; the others turn the direction of what
# follows them around.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
LEAST_WIDTH: Final = 20  # of what stands behind the names; narrower, words would be torn
_BREAKS = frozenset("\t\n\v\f\r\x85\u2028\u2029")


def one_line(text: str) -> str:
    """The text on one line: a space for each tab and line break, an escape such as `\\x1b` for every other character
    that a terminal obeys."""
    return _CONTROLS.sub(_shown, text)


def folded(console: Console, line: Text, hang: int) -> Iterator[Text]:
    """The line, broken between words where the terminal ends. What follows begins below the character `hang`, behind
    the names of a column. Elsewhere than on a terminal, programs read lines, and nothing is broken."""
    if not console.is_terminal or line.cell_len <= console.width or console.width < hang + LEAST_WIDTH:
        yield line
        return
    name, said = line.divide([hang])
    for part in said.wrap(console, console.width - hang):
        part.rstrip()
        yield name + part
        name = Text(" " * hang)


def print_folded(console: Console, line: Text | str, hang: int) -> None:
    """What strangers wrote in it is shown as `one_line` does."""
    text = Text(one_line(line)) if isinstance(line, str) else line
    for part in folded(console, text, hang):
        console.print(part, soft_wrap=True)


def _shown(found: re.Match[str]) -> str:
    character = found.group()
    if character in _BREAKS:
        return " "
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
