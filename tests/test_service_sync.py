"""SyncEmbeddingService: the service for programs without async and await."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import anyio
import numpy as np
import pytest

from streamer import ConfigurationError, SyncEmbeddingService, TextsRejected
from streamer.protocols import Answer
from streamer.testing import HashProvider, vector_of
from tests.support.vendors.services import assert_same


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_all_calls_from_several_threads() -> None:
    """First hour R5."""
    documents = ["shares", "a kitten", "rain"]
    with SyncEmbeddingService(provider="onnx", cache__enabled=False) as service:
        assert service.embed_batch(documents).shape == (3, service.dimensions) == (3, 384)
        assert service.state() is None
        [best] = service.find_most_similar("a cat", documents, k=1)
        assert best.text == "a kitten"
        assert service.similarity("a cat", "a kitten") > service.similarity("a cat", "rain")
        assert_same(service.embed_query("rain")[None], service.embed("rain")[None])
        with ThreadPoolExecutor(4) as pool:
            vectors = list(pool.map(service.embed, documents * 4))
        assert_same(np.array(vectors), service.embed_batch(documents * 4))


@pytest.mark.anyio
async def test_inside_a_running_event_loop() -> None:
    """First hour R5."""
    with SyncEmbeddingService(provider=HashProvider()) as service:
        assert_same(service.embed("a")[None], vector_of("a")[None])
    await anyio.lowlevel.checkpoint()  # the loop outside is as it was


def test_errors_come_out_as_they_are_and_nothing_stays_open() -> None:
    before = threading.enumerate()
    with SyncEmbeddingService(provider=HashProvider()) as service:
        with pytest.raises(TextsRejected):
            service.embed_batch(["a", "reject"])
        with pytest.raises(TypeError, match="not one string"):
            service.embed_batch("a")
        with pytest.raises(RuntimeError, match="open already"):
            service.open()
    broken = SyncEmbeddingService(provider="openai", api_key="k", model="unknown")
    with pytest.raises(ConfigurationError, match="'unknown' of 'openai' is not in the table"):
        broken.open()
    with pytest.raises(RuntimeError, match="open the SyncEmbeddingService first"):
        broken.embed("a")
    with pytest.raises(ZeroDivisionError), service:
        raise ZeroDivisionError
    service.close()
    for thread in set(threading.enumerate()) - set(before):
        thread.join(10)  # told to end, and not waited for
        assert not thread.is_alive()


def test_leaving_by_an_error_cancels_what_is_under_way() -> None:
    class Hanging(HashProvider):
        called = threading.Event()

        async def embed(self, *_: object) -> Answer:
            self.called.set()
            await anyio.sleep_forever()
            raise AssertionError("unreachable")

    provider = Hanging()
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt), SyncEmbeddingService(provider=provider) as service:  # noqa: PT012
            waiting = pool.submit(service.embed, "a")
            assert provider.called.wait(10)
            raise KeyboardInterrupt
        with pytest.raises(CancelledError):
            waiting.result(10)


def test_repr_says_what_it_is() -> None:
    """First hour R5."""
    service = SyncEmbeddingService(provider="onnx", cache__enabled=False)
    assert repr(service) == "<SyncEmbeddingService onnx (its default model), closed>"
    with service:
        assert repr(service).startswith("<SyncEmbeddingService onnx all-MiniLM-L6-v2, 384 dimensions, space ")
