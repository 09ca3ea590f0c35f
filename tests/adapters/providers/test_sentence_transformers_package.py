"""The adapter on the real package, with a model that is made here: small, never trained, but a BERT like any other.

Runs where sentence-transformers is installed. The other tests of the adapter use a stand-in, because the package brings
torch, several gigabytes of it on Linux.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from streamer.adapters.providers.onnx_models import VOCABULARY
from streamer.adapters.providers.sentence_transformers import SentenceTransformersProvider
from streamer.errors import ConfigurationError

MISSING = "sentence-transformers is not installed: it brings torch, gigabytes of it"
sentence_transformers = pytest.importorskip("sentence_transformers", reason=MISSING)
torch = pytest.importorskip("torch", reason=MISSING)
models = pytest.importorskip("sentence_transformers.models", reason=MISSING)
transformers = pytest.importorskip("transformers", reason=MISSING)

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

DIMENSIONS, READS = 48, 32
TEXTS = ["the parcel arrived wet", "", "ünïcödé 漢字 \U0001f600", "a " * 500, "the parcel arrived wet", "x\ud800y"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    parts = tmp_path_factory.mktemp("parts")
    (parts / "vocab.txt").write_text(VOCABULARY.read_text())
    vocabulary = str(parts / "vocab.txt")
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary, vocab_file=vocabulary)  # its name in 5.x and in 4.x
    tokenizer.save_pretrained(parts)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=DIMENSIONS,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(parts)
    encoder = models.Transformer(str(parts), max_seq_length=READS)
    model = sentence_transformers.SentenceTransformer(
        modules=[encoder, models.Pooling(DIMENSIONS)],
        device="cpu",
        prompts={"query": "query: ", "document": ""},
    )
    folder = tmp_path_factory.mktemp("model") / "tiny-bert"
    model.save(str(folder))
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a folder was asked for, and yet {arguments} is called")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
async def provider(folder: Path) -> AsyncIterator[SentenceTransformersProvider]:
    opened = await anyio.to_thread.run_sync(lambda: SentenceTransformersProvider(model=str(folder), torch_threads=1))
    yield opened
    await opened.aclose()


async def test_every_text_has_the_vector_it_has_alone(provider):
    together = await provider.embed(TEXTS, "document")
    assert together.vectors.shape == (len(TEXTS), DIMENSIONS)
    assert together.vectors.dtype == np.float32
    for text, vector in zip(TEXTS, together.vectors, strict=True):
        alone = await provider.embed([text], "document")
        np.testing.assert_allclose(vector, alone.vectors[0], atol=1e-5)
    assert not np.allclose(together.vectors[0], together.vectors[2], atol=1e-3)


async def test_what_is_cut_and_how_long_texts_are(provider):
    answer = await provider.embed(TEXTS, "document")
    assert answer.truncated == [False, False, False, True, False, False]
    assert answer.tokens is not None
    assert answer.tokens[0] == 6  # four words and the two tokens of the frame
    assert answer.tokens[3] == READS
    assert provider.count_tokens is not None
    assert provider.count_tokens(["the parcel arrived wet", "a " * 500]) == [4, 500]


async def test_queries_get_the_models_own_prompt(provider):
    assert provider.space.query_prefix == "query: "
    prepared = provider.space.prepare("wet parcel", "query")
    [query] = (await provider.embed([prepared], "query")).vectors
    [same] = (await provider.embed(["query: wet parcel"], "document")).vectors
    np.testing.assert_allclose(query, same, atol=1e-5)


async def test_calls_at_the_same_time_do_not_disturb_each_other(provider):
    alone = (await provider.embed(TEXTS, "document")).vectors
    answers: list[Any] = []

    async def call() -> None:
        answers.append((await provider.embed(TEXTS, "document")).vectors)

    async with anyio.create_task_group() as calls:
        for _ in range(8):
            calls.start_soon(call)
            provider.count_tokens(TEXTS)
    for vectors in answers:
        np.testing.assert_allclose(vectors, alone, atol=1e-5)


async def test_dimensions_are_cut_or_refused(folder):
    cut = SentenceTransformersProvider(model=str(folder), dimensions=16, request_dimensions=True)
    assert (await cut.embed(["one"], "document")).vectors.shape == (1, 16)
    await cut.aclose()
    with pytest.raises(ConfigurationError, match="tiny-bert gives 48"):
        SentenceTransformersProvider(model=str(folder), dimensions=16)


async def test_threads_of_torch_are_bounded(provider):
    await provider.embed(["one"], "document")
    assert provider._thread.submit(torch.get_num_threads).result() == 1  # the setting of that thread


def test_a_folder_that_holds_no_model(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        SentenceTransformersProvider(model=str(tmp_path))
