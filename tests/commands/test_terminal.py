"""What strangers wrote moves no cursor, changes no colour and breaks no line of a terminal; long lines fit into it."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamer.commands.terminal import one_line, print_folded


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a \x1b[31mred\x1b[0m one", r"a \x1b[31mred\x1b[0m one"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m and \x7f", r"\x9b31m and \x7f"),
        ("two\r\nlines\tand\u2028more", "two  lines and more"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("caf\u00e9 \U0001f468\u200d\U0001f469 \u0e01\u0e32", "caf\u00e9 \U0001f468\u200d\U0001f469 \u0e01\u0e32"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(st.text())
def test_no_control_is_left_and_nothing_else_is_changed(text: str) -> None:
    shown = one_line(text)
    assert not [letter for letter in shown if unicodedata.category(letter) in ("Cc", "Zl", "Zp")]
    plain = "".join(letter for letter in text if letter.isprintable())
    assert one_line(plain) == plain


def printed(line: str, hang: int, width: int, *, terminal: bool = True) -> list[str]:
    out = io.StringIO()
    print_folded(Console(file=out, width=width, force_terminal=terminal, color_system=None), line, hang)
    return out.getvalue().splitlines()


def test_a_line_is_broken_between_words_below_what_it_says() -> None:
    line = "calls   twelve micro-batches, thirteen requests"
    assert printed(line, 8, 80) == [line]
    assert printed(line, 8, 34) == ["calls   twelve micro-batches,", "        thirteen requests"]
    assert printed(line, 8, 34, terminal=False) == [line], "programs read lines"
    assert printed(line, 8, 20) == [line], "it is too narrow for two columns"
    assert printed("said    \x1b[31mred", 8, 80) == ["said    \\x1b[31mred"]
