from __future__ import annotations

import pytest

from streamer.core.vendors import VENDORS
from streamer.embedding.contracts import contract_for, known_models
from streamer.errors import ConfigurationError

ROWS = [contract_for(provider, model) for provider in VENDORS for model in known_models(provider)]


def test_every_row_is_consistent() -> None:
    for row in ROWS:
        assert row.dimensions > 0, row
        assert row.max_item_tokens >= 128, row
        assert row.is_local == (row.max_items is None), row
        assert row.max_request_tokens is None or row.max_request_tokens >= row.max_item_tokens, row
        assert not (row.document_input_type and row.document_prefix), row
        assert bool(row.allowed_dimensions) == row.matryoshka, row
        assert row.dimensions_for(None) == row.dimensions_for(row.dimensions) == row.dimensions, row
        assert (row.billed == "tokens") == (not row.is_local and row.provider != "ollama"), row


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "text-embedding-3-large", {"dimensions": 3072, "max_items": 2048, "max_request_tokens": 300_000}),
        ("openai", "text-embedding-3-small", {"dimensions": 1536, "max_item_tokens": 8191, "truncation": "never"}),
        ("openai", "text-embedding-ada-002", {"dimensions": 1536, "allowed_dimensions": ()}),
        ("voyage", "voyage-3", {"dimensions": 1024, "max_item_tokens": 32_000, "max_request_tokens": 320_000}),
        ("voyage", "voyage-3-large", {"max_items": 1000, "max_request_tokens": 120_000}),
        ("cohere", "embed-english-v3.0", {"dimensions": 1024, "max_items": 96, "items_per_minute": 2000}),
        ("cohere", "embed-v4.0", {"dimensions": 1536, "max_item_tokens": 128_000}),
        ("ollama", "nomic-embed-text", {"dimensions": 768, "query_prefix": "search_query: "}),
        ("sentence-transformers", "all-MiniLM-L6-v2", {"dimensions": 384, "max_item_tokens": 256, "is_local": True}),
        ("onnx", "all-MiniLM-L6-v2", {"dimensions": 384, "max_items": None}),
        ("sentence-transformers", "bge-large-en-v1.5", {"dimensions": 1024, "document_prefix": ""}),
    ],
)
def test_figures_that_users_rely_on(provider: str, model: str, expected: dict[str, object]) -> None:
    row = contract_for(provider, model)
    assert {name: getattr(row, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("sentence-transformers", "BAAI/bge-large-en-v1.5"),
        ("sentence-transformers", "/models/BGE-large-en-v1.5/"),
        ("ollama", "nomic-embed-text:latest"),
        ("openai", "Text-Embedding-3-Small"),
    ],
)
def test_a_model_is_known_by_its_other_spellings_and_keeps_the_users(provider: str, model: str) -> None:
    assert contract_for(provider, model).model == model


def test_explicit_values_win_and_none_is_not_a_value() -> None:
    row = contract_for("openai", "text-embedding-3-small", max_items=16, requests_per_minute=3000, dimensions=None)
    assert (row.max_items, row.requests_per_minute, row.dimensions) == (16, 3000, 1536)


def test_an_unknown_model_needs_explicit_values_and_is_told_which() -> None:
    with pytest.raises(ConfigurationError, match=r"'my-model' of 'openai'.*set max_item_tokens, max_items for it"):
        contract_for("openai", "my-model", dimensions=512)
    row = contract_for("openai", "my-model", dimensions=512, max_item_tokens=8192, max_items=32)
    assert (row.dimensions, row.max_items, row.truncation, row.is_local) == (512, 32, "never", False)


def test_an_unknown_local_model_needs_no_cap_on_items() -> None:
    with pytest.raises(ConfigurationError, match="set dimensions, max_item_tokens for it"):
        contract_for("onnx", "my-folder")
    row = contract_for("onnx", "my-folder", dimensions=64, max_item_tokens=128)
    assert (row.is_local, row.max_items, row.truncation, row.billed) == (True, None, "always", "nothing")


@pytest.mark.parametrize(
    ("provider", "model", "wanted", "allowed"),
    [
        ("openai", "text-embedding-3-small", 2000, "1 to 1536"),
        ("openai", "text-embedding-ada-002", 256, "allowed: 1536"),
        ("voyage", "voyage-3-large", 768, "256, 512, 1024, 2048"),
        ("cohere", "embed-english-v3.0", 512, "allowed: 1024"),
    ],
)
def test_dimensions_that_are_not_offered_are_refused_with_those_that_are(
    provider: str, model: str, wanted: int, allowed: str
) -> None:
    row = contract_for(provider, model)
    with pytest.raises(ConfigurationError, match=f"{model} has no vectors of {wanted} dimensions.*{allowed}"):
        row.dimensions_for(wanted)


def test_dimensions_that_are_offered() -> None:
    assert contract_for("openai", "text-embedding-3-large").dimensions_for(256) == 256
    assert contract_for("voyage", "voyage-3-large").dimensions_for(2048) == 2048
