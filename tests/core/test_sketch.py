"""Sketches: what they survive, what they tell apart, and that anything may arrive in the header."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.sketch import TextForm, form_of, overlaps, sketch, unpack, unpack_all, unpack_form

STORY = "Oil prices rose to 47 dollars a barrel on Monday as fears about supply in Iraq and Nigeria outweighed hopes"
# No two of these have the same 16 bits, as one pair of words in 65,535 does ("word6" and "word137").
WORDS = st.lists(
    st.sampled_from([*STORY.split(), *(f"word{i}" for i in range(137)), "日本", "Größe", "7"]), max_size=90
)


def overlap(first: str, second: str) -> float:
    pair = [unpacked for text in (first, second) if (unpacked := unpack(sketch(text))) is not None]
    assert len(pair) == 2
    return overlaps(pair[:1], pair[1:])[0].share


@pytest.mark.parametrize(
    ("copy", "at_least"),
    [
        (STORY, 1.0),
        (STORY.upper() + "!", 1.0),
        (" ".join(STORY.split()[:10]), 0.8),
        (STORY + " while the shares of most airlines fell by 3 percent and gold did not move", 0.9),
        (" ".join(STORY.split()[::-1]), 1.0),
        (STORY.replace("prices rose", "prices climbed").replace("fears", "worries"), 0.8),
    ],
)
def test_copies_share_their_words(copy: str, at_least: float) -> None:
    assert at_least <= overlap(STORY, copy) <= 1
    assert overlap(STORY, copy) == overlap(copy, STORY)


@pytest.mark.parametrize(
    "other",
    [
        STORY.replace("47", "52"),
        "Israel said on Monday that it would not take part in talks about the future of the territories",
        "Monday",
        "",
    ],
)
def test_look_alikes_do_not_count_as_copies(other: str) -> None:
    assert overlap(STORY, other) < 0.75


def test_numbers_agree_unless_they_were_exchanged() -> None:
    texts = (STORY, STORY.replace("47", "52"), STORY.replace("47 ", ""), STORY + " 3 and 4")
    sketches = [unpacked for text in texts if (unpacked := unpack(sketch(text))) is not None]
    agreements = [pair.agreement for pair in overlaps(sketches[:1] * 4, sketches)]
    assert agreements == [1, pytest.approx(1 - 8 / (18 + 2 + 8), abs=0.02), 1, 1]


def test_one_number_of_a_long_text_matters_little() -> None:
    text = " ".join(f"word{i}x" for i in range(400))
    assert overlap(f"page 1 {text}", f"page 2 {text}") > 0.8


def test_long_texts_are_compared_by_a_sample() -> None:
    words = [f"w{i}" for i in range(1000)]
    half = " ".join(words[:500])
    assert len(sketch(" ".join(words))) == 1 + 2 * 48
    assert overlap(" ".join(words), half) > 0.8
    assert overlap(half, " ".join(words[500:])) < 0.2


@given(WORDS, WORDS)
def test_equals_the_sets_of_words(first: list[str], second: list[str]) -> None:
    ours = [{word.lower() for word in text if not word[0].isdigit() and word != "日本"} for text in (first, second)]
    numbers = [{word for word in text if word[0].isdigit()} for text in (first, second)]
    if all(len(words) < 46 for words in ours) and "日本" not in first + second:
        fewer, fewer_numbers = min(map(len, ours)), min(map(len, numbers))
        shared, shared_numbers = len(ours[0] & ours[1]), len(numbers[0] & numbers[1])
        expected = (shared + 8 * shared_numbers) / (fewer + 2 + 8 * fewer_numbers)
        if (ours[0], numbers[0]) == (ours[1], numbers[1]):
            expected = 1
        assert overlap(" ".join(first), " ".join(second)) == pytest.approx(expected, abs=0.03)


@given(st.text(max_size=300))
def test_the_wire_form_is_small_and_reads_back(text: str) -> None:
    value = sketch(text)
    assert len(value) <= 121
    assert unpack(value) is not None
    assert overlap(text, text) == 1


@given(st.binary(max_size=130))
def test_junk_is_refused_or_harmless(value: bytes) -> None:
    unpacked = unpack(value)
    if unpacked is not None:
        assert overlaps([unpacked], [unpacked]) == [(1, 1)]


@given(st.lists(WORDS.map(lambda words: sketch(" ".join(words))) | st.binary(max_size=8), max_size=6))
def test_many_are_unpacked_as_each_is(values: list[bytes]) -> None:
    each = [unpack(value) for value in values]
    found = unpack_all(values)
    if None in each:
        assert found is None
    else:
        assert found is not None
        assert [row.tobytes() for row in found] == each


def test_the_wire_form_is_fixed() -> None:
    # Written by workers and read by indexers of other versions: a change here is a change of the format.
    assert sketch("Hello, hello world 42").hex() == "02ba4b96dcace2"
    assert np.frombuffer(unpack(sketch("")) or b"", "<u2").tolist() == [0xFFFF] * 60


def test_a_form_counts_what_can_be_seen() -> None:
    text = "WIN 2 cars NOW!! See https://Win.example or www.win.com, ok?"
    form = unpack_form(form_of(text))
    assert form == TextForm(
        characters=60,
        printed=52,
        words=9,
        longest=19,
        letters=41,
        capitals=8,
        digits=1,
        beyond_ascii=0,
        links=3,
        exclamations=2,
        questions=1,
        distinct=24,
        shouted=2,
    )
    assert unpack_form(b"no form") is None


@given(st.text(max_size=200))
def test_ascii_and_other_texts_are_counted_alike(text: str) -> None:
    plain, longer = (unpack_form(form_of(made)) for made in (text, text + " é"))
    assert plain is not None
    assert longer is not None
    assert longer.beyond_ascii == plain.beyond_ascii + 1
    assert longer.letters == plain.letters + 1
    assert longer[5:7] == plain[5:7]
    assert longer[8:11] == plain[8:11]
    assert longer.shouted == plain.shouted


MARKS = [
    *"aZ09_ .:?!\n-éÉßİ\u212a\u017fΣςǅ٣²Ⅷⓐ日。、Жж\ud800😀\U0001d400\U0001d7d8",
    "http:",
    "HTTPS://",
    "www.",
    ".Co",
    ".com",
    "A1",
    "AB",
    "\u212a.com",
]


@given(st.lists(st.sampled_from(MARKS), max_size=30).map("".join) | st.text(max_size=60))
def test_a_form_counts_character_by_character(text: str) -> None:
    assert unpack_form(form_of(text)) == TextForm(
        characters=len(text),
        printed=sum(not character.isspace() for character in text),
        words=len(text.split()),
        longest=max(map(len, text.split()), default=0),
        letters=sum(map(str.isalpha, text)),
        capitals=sum(map(str.isupper, text)),
        digits=sum(map(str.isdecimal, text)),
        beyond_ascii=sum(not character.isascii() for character in text),
        links=len(re.findall(r"(?ai)https?:|www\.|\w\.(?:com|net|org|info|biz|io|ly|me|uk|de)\b", text)),
        exclamations=text.count("!"),
        questions=text.count("?"),
        distinct=len(set(text.lower())),
        shouted=len(re.findall(r"\b[A-Z]{2,}\b", text)),
    )
