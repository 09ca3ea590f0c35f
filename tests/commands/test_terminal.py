"""What strangers wrote moves no cursor, changes no colour and breaks no line of a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.commands.terminal import one_line


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
