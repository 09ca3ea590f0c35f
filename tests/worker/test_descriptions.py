from __future__ import annotations

import random
from unittest.mock import Mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.core.sketch import form_of, sketch
from streamer.worker import descriptions as module
from streamer.worker.descriptions import descriptions

ascii_texts = st.text(st.characters(max_codepoint=127), max_size=60)
written = st.lists(
    st.sampled_from(
        ["Hello", "HELLO", "NATO's", "x_1", "42", "3.5", "https://a.de/b", "www.", ".COM", "a.com", "?!", "\t"]
    ),
    max_size=30,
).map(" ".join)
long = st.builds(lambda letter, length: letter * length, st.sampled_from("aB7 ."), st.integers(60, 4_010))
texts = ascii_texts | written | long | st.text(max_size=20)


@given(st.lists(texts, min_size=32, max_size=80))
@example([""] * 40)
@example(["a" * 64, "B" * 65, "c" * 4_000, "d" * 4_001, "\n", "é", "end.com"] * 8)
def test_many_texts_are_described_as_each_of_them_is(many: list[str]) -> None:
    assert descriptions(many) == ([*map(sketch, many)], [*map(form_of, many)])


def test_every_slot_of_a_sketch_keeps_the_smallest_hashes() -> None:
    rng = random.Random(3)
    words = [f"{rng.choice('abcdefg0123456789')}{n}" for n in range(3_000)]
    many = [" ".join(rng.choices(words, k=rng.randrange(400))) for _ in range(100)]
    assert max(len(sketch(text)) for text in many) == 1 + 2 * 60
    assert descriptions(many) == ([*map(sketch, many)], [*map(form_of, many)])


def test_what_is_usual_goes_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = Mock(wraps=sketch)
    monkeypatch.setattr(module, "sketch", one_by_one)
    descriptions([*(f"event {n} says hello" for n in range(200)), "café"])
    one_by_one.assert_called_once_with("café")


def test_memory_is_bounded_by_groups() -> None:
    assert max(sum(map(len, group)) for group in _groups_of([f"{n:04000}" for n in range(200)])) <= 20_000


def test_so_many_that_their_numbers_would_not_fit_beside_a_hash() -> None:
    sketches, forms = descriptions([*[""] * 40_000, "a 1"])
    assert sketches == [*[sketch("")] * 40_000, sketch("a 1")]
    assert forms == [*[form_of("")] * 40_000, form_of("a 1")]


def _groups_of(many: list[str]) -> list[list[str]]:
    return [many[start:end] for start, end in module._groups(many)]
