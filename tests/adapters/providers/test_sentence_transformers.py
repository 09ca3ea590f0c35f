"""What is special about a model in this process: one thread, groups by length, failures that are not HTTP's."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.providers.packing import packed
from streamer.adapters.providers.sentence_transformers import SentenceTransformersProvider
from streamer.errors import ConfigurationError, MissingExtra, RejectedError, RetriableError
from tests.support.vendors import sentence_transformers as stand_in
from tests.support.vendors.vectors import count_tokens, vector_for

pytestmark = pytest.mark.anyio


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    return stand_in.install(monkeypatch)


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sentence-transformers")]


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_groups_hold_every_text_once_and_stay_within_the_budget(lengths, budget):
    groups = list(packed(lengths, budget))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[i] for i in group)
        assert len(group) * longest <= budget or len(group) == 1
    # Similar lengths go together: no group begins before the one in front of it has ended.
    flat = [lengths[i] for group in groups for i in group]
    assert flat == sorted(flat)


async def test_texts_run_in_groups_of_similar_length_and_come_back_in_order(package):
    provider = SentenceTransformersProvider(model="m", group_tokens=24, torch_threads=3)
    texts = ["x" * 40, "y" * 4, "z" * 36, "y" * 8, "x" * 4]
    answer = await provider.embed(texts, "document")
    (model,) = package.models
    assert [sorted(map(len, group)) for group in model.groups] == [[7], [4, 4, 8], [36, 40]]  # the first is a warm-up
    for i, text in enumerate(texts):
        np.testing.assert_allclose(answer.vectors[i], 3 * vector_for(text, stand_in.DIMENSIONS), rtol=1e-6)
    assert answer.tokens == [count_tokens(text) for text in texts]
    assert answer.truncated == [False] * 5
    assert answer.billed_tokens == 0
    assert package.threads == [3]
    await provider.aclose()
    assert own_threads() == []


async def test_a_text_that_was_cut_is_flagged(package):
    provider = SentenceTransformersProvider(model="m")
    answer = await provider.embed(["short", "x" * 4 * 257], "document")
    assert answer.truncated == [False, True]
    assert answer.tokens == [2, 256]
    await provider.aclose()


async def test_a_text_that_is_too_long_is_refused_where_nothing_may_be_cut(package):
    provider = SentenceTransformersProvider(model="m", on_too_long="reject")
    with pytest.raises(RejectedError, match="257 tokens; m takes 256") as caught:
        await provider.embed(["short", "x" * 4 * 257], "document")
    assert caught.value.kind == "too_long"
    await provider.aclose()


async def test_the_models_prompts_are_the_prefixes_unless_others_are_given(package):
    provider = SentenceTransformersProvider(model="m")
    assert (provider.space.document_prefix, provider.space.query_prefix) == ("", "query: ")
    prepared = provider.space.prepare("what?", "query")
    answer = await provider.embed([prepared], "query")
    np.testing.assert_allclose(answer.vectors[0], 3 * vector_for("query: what?", stand_in.DIMENSIONS), rtol=1e-6)
    assert package.models[0].groups[-1] == ["what?"]  # the prompt is handed over apart
    await provider.aclose()
    other = SentenceTransformersProvider(model="m", query_prefix="Represent: ", document_prefix="")
    assert other.space.query_prefix == "Represent: "
    assert other.space != provider.space
    await other.aclose()


async def test_other_dimensions_are_cut_on_request_and_else_refused(package):
    cut = SentenceTransformersProvider(model="m", dimensions=64, request_dimensions=True)
    assert (await cut.embed(["one"], "document")).vectors.shape == (1, 64)
    await cut.aclose()
    with pytest.raises(ConfigurationError, match=r"dimensions is 64, but m gives 384"):
        SentenceTransformersProvider(model="m", dimensions=64)
    assert own_threads() == []


async def test_a_folder_is_loaded_offline_and_its_files_are_the_revision(package, tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    first = SentenceTransformersProvider(model=str(folder))
    assert first.space.model == "my-model"  # the same on every machine, wherever the folder is
    again = SentenceTransformersProvider(model=str(folder))
    (folder / "model.safetensors").write_bytes(b"other weights")
    trained = SentenceTransformersProvider(model=str(folder))
    assert first.space == again.space
    assert first.space != trained.space
    for provider in (first, again, trained):
        await provider.aclose()


def test_a_model_that_cannot_be_loaded(package):
    with pytest.raises(ConfigurationError, match="no-such-model"):
        SentenceTransformersProvider(model="no-such-model")
    assert own_threads() == []


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'embedding-streamer\[sentence-transformers\]'"):
        SentenceTransformersProvider(model="m")


async def test_running_out_of_memory_halves_the_groups(package):
    provider = SentenceTransformersProvider(model="m", group_tokens=32)
    (model,) = package.models
    model.failures.append(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    texts = ["x" * 16] * 8
    with pytest.raises(RetriableError, match="groups are now 16 tokens"):
        await provider.embed(texts, "document")
    model.groups.clear()
    await provider.embed(texts, "document")
    assert [len(group) for group in model.groups] == [4, 4]
    await provider.aclose()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (RuntimeError("Already borrowed"), RetriableError),
        (RuntimeError("CUDA error: device-side assert triggered"), RetriableError),
        (MemoryError(), RetriableError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), RetriableError),
        (IndexError("index out of range in self"), RejectedError),
        (ValueError("bad input"), RejectedError),
    ],
)
async def test_what_a_failure_of_the_model_means(package, failure, kind):
    provider = SentenceTransformersProvider(model="m")
    package.models[0].failures.append(failure)
    with pytest.raises((RetriableError, RejectedError)) as caught:
        await provider.embed(["one"], "document")
    assert type(caught.value) is kind
    await provider.embed(["one"], "document")
    await provider.aclose()


async def test_a_cancelled_call_ends_after_its_present_group(package):
    provider = SentenceTransformersProvider(model="m", group_tokens=1)
    (model,) = package.models
    model.groups.clear()
    running, let_go = threading.Event(), threading.Event()

    def block() -> None:
        running.set()
        let_go.wait()

    model.before_group = block
    async with anyio.create_task_group() as group:
        group.start_soon(provider.embed, ["one"] * 100, "document")
        await anyio.to_thread.run_sync(running.wait)
        group.cancel_scope.cancel()
    let_go.set()
    await provider.embed(["two"], "document")
    assert model.groups == [["one"], ["two"]]
    await provider.aclose()
