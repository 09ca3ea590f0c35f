from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.embedding.chunking import cut, typical_tokens, windows


def letters(text: str) -> int:
    return len(text)


texts = st.text(st.characters(codec="utf-8") | st.sampled_from(" \n\t"), max_size=300)


@given(texts, st.integers(1, 50))
def test_parts_joined_are_the_text_and_each_is_within_the_limit(text: str, limit: int) -> None:
    parts = windows(text, limit, letters)
    assert "".join(parts) == text
    # Only spaces, which cost a model nothing, may hang over: they are no part of their own.
    assert all(len(part.strip()) <= limit for part in parts)
    assert len(parts) < 2 or all(part.strip() for part in parts)


@given(texts, st.integers(1, 400))
def test_typical_counts_cut_within_the_limit(text: str, limit: int) -> None:
    part = cut(text, limit, typical_tokens)
    assert text.startswith(part)
    assert typical_tokens(part) <= limit or len(part) == 1
    assert bool(part) == bool(text)


def test_cuts_fall_on_spaces_where_there_are_any_near_the_end() -> None:
    text = "word " * 100
    assert all(part.endswith(" ") for part in windows(text, 48, letters))


def test_a_text_without_spaces_is_cut_all_the_same() -> None:
    assert windows("x" * 100, 30, letters) == ["x" * 30, "x" * 30, "x" * 30, "x" * 10]


def test_what_fits_is_left_alone() -> None:
    assert cut("as it is ", 9, letters) == "as it is "
    assert windows("", 5, letters) == []


def test_typical_counts_are_on_the_high_side_for_prose_and_near_bytes_for_other_scripts() -> None:
    prose = "The quick brown fox jumps over the lazy dog and runs away from all the other animals. " * 10
    assert 860 / 4.5 < typical_tokens(prose) < 860 / 3
    assert typical_tokens("日本語の文章" * 10) >= 60
