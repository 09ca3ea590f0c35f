"""A space's id stands for all that changes a vector; a cache key for a text as the model is given it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.vectors import Space, cache_key, unit_rows

SPACE = Space(provider="openai", model="text-embedding-3-small", dimensions=1536)
NAMES = [field.name for field in fields(Space) if field.init]
TEXTS = st.text(st.characters(codec=None, categories=None))  # lone surrogates too


def changed(name: str) -> Space:
    values: dict[str, Any] = {field: getattr(SPACE, field) for field in NAMES}
    old = values[name]
    values[name] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}-other"
    return Space(**values)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_changes_a_vector_changes_the_space_and_its_id(name: str) -> None:
    assert changed(name) != SPACE
    assert changed(name).id != SPACE.id


def test_an_id_is_the_same_in_every_process_and_release() -> None:
    """It is in the keys of every cache, in every snapshot and on every record: a new one would cost a whole topic."""
    assert SPACE.id == "3097011ec434"
    assert Space(provider="openai", model="text-embedding-3-small", dimensions=1536).id == SPACE.id


def test_a_text_is_prepared_with_the_prefix_of_its_purpose() -> None:
    space = Space(provider="p", model="m", dimensions=2, document_prefix="passage: ", query_prefix="query: ")
    assert space.prepare("wet", "document") == "passage: wet"
    assert space.prepare("wet", "query") == "query: wet"


@given(TEXTS, TEXTS)
def test_texts_have_the_same_key_only_if_they_are_the_same(first: str, second: str) -> None:
    assert len(cache_key(first, "document")) == 32
    assert (cache_key(first, "document") == cache_key(second, "document")) == (first == second)
    assert cache_key(first, "document") != cache_key(first, "query")


def test_lone_surrogates_are_told_apart() -> None:
    assert len({cache_key(text, "document") for text in ("\ud800", "\udfff", "?", "\N{REPLACEMENT CHARACTER}")}) == 4


def test_a_key_is_the_same_in_every_process_and_release() -> None:
    assert (
        cache_key("wet parcel", "document").hex() == "46d1afa4235f0bd48947e78078d7574dda3a163f5198c496f78ade836f4a5c23"
    )


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_rows_come_out_at_unit_length_whatever_their_own(scale: float) -> None:
    rows = np.random.default_rng(1).normal(size=(50, 3072)) * scale
    unit = unit_rows(rows)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1, atol=1e-7)
    np.testing.assert_allclose(unit, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-7)
    assert unit_rows(rows[0]).shape == (1, 3072)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -np.inf])
def test_a_row_without_a_direction_is_named(bad: float) -> None:
    rows = np.ones((4, 3))
    rows[2] = bad
    with pytest.raises(ValueError, match="row 2 cannot be normalised"):
        unit_rows(rows)
