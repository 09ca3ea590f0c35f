"""What strangers wrote, fit for a terminal."""

from __future__ import annotations

import re

# C0, DEL and C1 may move the cursor, change colours or the window's title; the others turn the direction of what
# follows them around.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_BREAKS = frozenset("\t\n\v\f\r\x85\u2028\u2029")


def one_line(text: str) -> str:
    """The text on one line: a space for each tab and line break, an escape such as `\\x1b` for every other character
    that a terminal obeys."""
    return _CONTROLS.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    character = found.group()
    if character in _BREAKS:
        return " "
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
