"""The model that a service says its answers come from must stay the same."""

from __future__ import annotations

import pytest

from streamer.adapters.providers.answered_model import AnsweredModel, is_same_model
from streamer.errors import ProviderBlocked


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bge-m3", "BAAI/bge-m3"),
        ("BGE-M3", "bge-m3"),
        ("nomic-embed-text:latest", "nomic-embed-text"),
        ("text-embedding-ada-002", "text-embedding-ada-002-v2"),
        ("openai/text-embedding-3-small", "text-embedding-3-small"),
    ],
)
def test_names_that_may_mean_one_model(one: str, other: str) -> None:
    assert is_same_model(one, other)
    assert is_same_model(other, one)


@pytest.mark.parametrize("other", ["bge-large-en", "text-embedding-3-large", "x"])
def test_r2_another_name_is_another_model(other: str) -> None:
    model = AnsweredModel("acme")
    assert model.same("text-embedding-3-small") == "text-embedding-3-small"
    unnamed: list[object] = [None, "", 3, {}]
    for silent in unnamed:
        assert model.same(silent) is None
    with pytest.raises(ProviderBlocked, match=f"acme answers with the model '{other}' now and with 'text-embedding-3-"):
        model.same(other)
    assert model.same("text-embedding-3-small")  # it is back
