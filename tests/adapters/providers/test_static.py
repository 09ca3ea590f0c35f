"""The static provider against model2vec itself, which made the folders and says which vectors are right."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model2vec import StaticModel as Reference
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from streamer.adapters.providers.onnx_models import VOCABULARY
from streamer.adapters.providers.static import TEXTS_AT_ONCE, StaticProvider
from streamer.adapters.providers.static_model import TOKENS_AT_ONCE, StaticModel, load
from streamer.app.embedder import open_embedding
from streamer.app.providers import contract_of, open_provider
from streamer.core.vectors import Matrix, unit_rows
from streamer.errors import ConfigurationError, StreamerError
from streamer.protocols import Embedding, Rejection
from streamer.settings import Settings

pytestmark = pytest.mark.anyio

DIMENSIONS = 32
LINES = (
    "Oil prices fell for the third day in a row.",
    "ok",
    "Ein Satz in einer anderen Sprache, mit Umlauten: größer, schöner.",
    "a b c " * 700,
    "naïve café \U0001f600 zebra\U0001f469\u200d\U0001f680",
)


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece.from_file(str(VOCABULARY), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def words(*known: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0} | {word: i + 1 for i, word in enumerate(known)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def reference(kind: str) -> Reference:
    """Models of each kind that model2vec makes, with vectors at random."""
    random = np.random.default_rng(7)
    tokenizer = wordpiece()
    count = tokenizer.get_vocab_size()
    table = random.standard_normal((count, DIMENSIONS)).astype(np.float32)
    if kind == "float16":
        return Reference(table.astype(np.float16), tokenizer, max_length=64)
    if kind == "int8":
        return Reference(np.round(table * 30).clip(-127, 127).astype(np.int8), tokenizer)
    if kind == "shared rows":
        weights = random.random(count).astype(np.float32)
        mapping = random.integers(0, 100, count)
        return Reference(table[:100], tokenizer, weights=weights, token_mapping=mapping, normalize=True)
    return Reference(table, tokenizer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("static") / "my-static"
    reference("float32").save_pretrained(path)
    return path


@asynccontextmanager
async def running(model: StaticModel) -> AsyncIterator[StaticProvider]:
    provider = StaticProvider(model)
    try:
        yield provider
    finally:
        await provider.aclose()


def settings(folder: Path | None, **provider: Any) -> Settings:
    model = {} if folder is None else {"model": str(folder)}
    return Settings.model_validate({"provider": {"name": "static", **model, **provider}, "cache": {"enabled": False}})


def means(model: StaticModel, texts: Sequence[str]) -> Matrix:
    rows, _ = model.tokenize(texts)
    vectors = np.empty((len(rows), model.dimensions), np.float32)
    model.run(rows, into=vectors)
    return vectors


@pytest.mark.parametrize(
    "kind", ["float32", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("float16", "int8", "shared rows"))]
)
async def test_its_vectors_are_those_of_model2vec(kind: str, tmp_path: Path) -> None:
    made = reference(kind)
    made.save_pretrained(tmp_path / "model")
    async with running(load(str(tmp_path / "model"))) as provider:
        answer = await provider.embed(LINES, "document")
        assert provider.space.precision == made.embedding_dtype
        assert provider.space.max_tokens == (64 if kind == "float16" else 512)
    # Its own cut of long texts looks at characters, so the long one is compared by its first tokens.
    read = [
        *LINES[:3],
        "a b c " * (provider.space.max_tokens // 3) + "a b"[: provider.space.max_tokens % 3 * 2],
        LINES[4],
    ]
    expected = np.asarray(made.encode(read, max_length=None), np.float32)
    assert answer.tokens is not None
    assert answer.tokens[3] == provider.space.max_tokens
    assert answer.truncated == [False, False, False, True, False]
    np.testing.assert_allclose(unit_rows(answer.vectors), unit_rows(expected), atol=2e-3 if kind == "float16" else 1e-5)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_a_vector_does_not_depend_on_the_texts_beside_it(model: StaticModel, texts: list[str], random: Any) -> None:
    alone = np.concatenate([means(model, [text]) for text in texts])
    order = random.sample(range(len(texts)), len(texts))
    np.testing.assert_array_equal(means(model, [texts[i] for i in order]), alone[order])


@pytest.fixture(scope="module")
def model(folder: Path) -> StaticModel:
    return load(str(folder))


def test_a_batch_of_more_tokens_than_are_read_at_once_is_read_in_parts(model: StaticModel) -> None:
    texts = ["word " * 500] * (TOKENS_AT_ONCE // 500 + 2) + ["another"]
    np.testing.assert_array_equal(means(model, texts)[-1], means(model, ["another"])[0])


def test_an_endless_word_before_the_text_does_not_hide_it(model: StaticModel) -> None:
    rows, truncated = model.tokenize(["x" * 64 * 512 + " oil prices", " " * 64 * 512 + "oil"])
    assert [len(row) for row in rows] == [3, 1]
    assert truncated == [False, False]


async def test_words_that_it_does_not_know_do_not_count_and_a_text_of_nothing_else_is_rejected(tmp_path: Path) -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
    Reference(table, words("oil", "prices")).save_pretrained(tmp_path / "small")
    async with open_embedding(settings(tmp_path / "small")) as stack:
        both, rare, oil = await stack.embedder.embed(["oil qwerty prices", "qwerty", "oil"], "document")
    assert isinstance(both, Embedding)
    np.testing.assert_allclose(both.vector, unit_rows(table[1:].mean(axis=0)[None])[0], atol=1e-6)
    assert isinstance(oil, Embedding)
    assert isinstance(rare, Rejection)


async def test_the_folder_is_named_in_the_space_and_its_files_pin_it(folder: Path) -> None:
    async with open_provider(settings(folder)) as opened:
        space = opened.provider.space
        assert (space.provider, space.model, space.dimensions) == ("static", "my-static", DIMENSIONS)
        assert len(space.revision) == 12
        assert opened.contract.max_item_tokens == 512
        assert opened.count_tokens is not None
        assert opened.count_tokens(["hello world", ""]) == [2, 0]


async def test_its_vectors_are_cut_only_where_it_is_trained_for_it(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is 16, but .* gives 32; if it is trained to be cut, set"):
        async with open_provider(settings(folder, dimensions=16)):
            pass
    async with open_provider(settings(folder, dimensions=16, matryoshka=True)) as opened:
        cut = (await opened.provider.embed(["oil"], "document")).vectors
        assert cut.shape == (1, 16)


async def test_sentence_transformers_folders_are_read_as_well(folder: Path, tmp_path: Path) -> None:
    inner = tmp_path / "st" / "0_StaticEmbedding"
    inner.mkdir(parents=True)
    ours = load(str(folder))
    save_file({"embedding.weight": np.asarray(ours._table)}, inner / "model.safetensors")
    (inner / "tokenizer.json").write_text((folder / "tokenizer.json").read_text())
    other = load(str(tmp_path / "st"))
    assert other.model == "st"
    np.testing.assert_array_equal(means(other, LINES), means(ours, LINES))


def test_without_a_folder_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.model: static comes without a model; name the folder"):
        contract_of(settings(None))


def broken(path: Path, what: str) -> Path:
    Reference(np.ones((3, 4), np.float32), words("oil", "prices")).save_pretrained(path)
    match what:
        case "no weights":
            (path / "model.safetensors").unlink()
        case "half a file":
            whole = (path / "model.safetensors").read_bytes()
            (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
        case "another model":
            save_file({"encoder.layer.0": np.ones((2, 2), np.float32)}, path / "model.safetensors")
        case "too few vectors":
            save_file({"embeddings": np.ones((2, 4), np.float32)}, path / "model.safetensors")
        case "a vector":
            save_file({"embeddings": np.ones(9, np.float32)}, path / "model.safetensors")
        case "few weights":
            tensors = {"embeddings": np.ones((3, 4), np.float32), "weights": np.ones(1, np.float32)}
            save_file(tensors, path / "model.safetensors")
        case "mapped away":
            tensors = {"embeddings": np.ones((3, 4), np.float32), "mapping": np.array([0, 3, 1])}
            save_file(tensors, path / "model.safetensors")
        case "no tokenizer":
            (path / "tokenizer.json").write_text("{}")
        case "odd length":
            (path / "config.json").write_text(json.dumps({"max_length": "long"}))
    return path


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("no weights", "has no model.safetensors"),
        ("half a file", "model.safetensors cannot be used"),
        ("another model", "has encoder.layer.0, and none of embeddings, embedding.weight: it is not a static model"),
        ("too few vectors", "has 2 vectors for 3 tokens"),
        ("a vector", r"have the shape \(9,\), not two axes"),
        ("few weights", "has 1 weights for 3 tokens"),
        ("mapped away", "maps tokens to vectors that it does not have"),
        ("no tokenizer", "tokenizer.json cannot be used"),
        ("odd length", "max_length in .* is 'long'"),
    ],
)
def test_a_broken_folder_is_named(what: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load(str(broken(tmp_path / "broken", what)))


async def test_a_closed_provider_ends_the_call_that_is_on(model: StaticModel, monkeypatch: pytest.MonkeyPatch) -> None:
    started, gate = threading.Event(), threading.Event()
    tokenize = model.tokenize

    def held(texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        started.set()
        assert gate.wait(60)
        return tokenize(texts)

    monkeypatch.setattr(model, "tokenize", held)
    provider = StaticProvider(model)

    async def stop() -> None:
        await anyio.to_thread.run_sync(started.wait)
        async with anyio.create_task_group() as closing:
            closing.start_soon(provider.aclose)
            while not provider._closed.is_set():
                await anyio.lowlevel.checkpoint()
            gate.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop)
        with pytest.raises(StreamerError, match="was closed"):
            await provider.embed(["text"] * (2 * TEXTS_AT_ONCE), "document")
    with pytest.raises(StreamerError, match="was closed"):
        await provider.embed(["text"], "document")
