"""EmbeddingService around a provider object of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamer import (
    Answer,
    ConfigurationError,
    EmbeddingService,
    ProviderBlocked,
    Purpose,
    RateLimited,
    TextsRejected,
)
from streamer.testing import HashProvider, vector_of
from tests.support.vendors.services import assert_same

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class ClosingProvider(HashProvider):
    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


async def test_its_vectors_come_out_checked_cached_and_in_order() -> None:
    provider = ClosingProvider()
    texts = [f"text {i}" for i in range(1_300)]
    async with EmbeddingService(provider=provider, max_items=100) as service:
        assert_same(await service.embed_batch(texts), np.array([vector_of(text) for text in texts]))
        assert service.space == provider.space
        assert sorted(len(call) for call in provider.calls) == [100] * 13
        assert await service.similarity(texts[0], texts[0]) == pytest.approx(1)
        assert len(provider.calls) == 13  # the cache knew
    assert provider.closed == 1


async def test_it_is_retried_when_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Limited(HashProvider):
        async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
            if not self.calls:
                self.calls.append([])
                raise RateLimited("slow down", retry_after=0.01)
            return await super().embed(texts, purpose)

    provider = Limited()
    async with EmbeddingService(provider=provider) as service:
        assert_same((await service.embed("a"))[None], vector_of("a")[None])
    assert provider.calls == [[], ["a"]]


async def test_a_text_that_it_rejects_is_found_among_the_others() -> None:
    async with EmbeddingService(provider=HashProvider()) as service:
        with pytest.raises(TextsRejected, match="1 of 3 texts have no vector; text 1: rejected, a text contains"):
            await service.embed_batch(["a", "please reject me", "b"])


async def test_overlong_texts_are_cut_for_it() -> None:
    provider = HashProvider()
    async with EmbeddingService(provider=provider, max_item_tokens=20) as service:
        await service.embed("word " * 1_000)
    [[sent]] = provider.calls
    assert 20 < len(sent) < 200


async def test_a_wrong_width_is_another_model() -> None:
    provider = HashProvider()
    provider.space = replace(provider.space, dimensions=9)
    wrong = HashProvider()
    provider.embed = wrong.embed  # type: ignore[method-assign]
    async with EmbeddingService(provider=provider) as service:
        with pytest.raises(ProviderBlocked, match="9 dimensions were expected, the provider sent 8"):
            await service.embed("a")


async def test_what_the_object_decides_cannot_be_set_beside_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"model=\.\.\.: the provider object decides this itself"):
        EmbeddingService(provider=HashProvider(), model="m")
    with pytest.raises(TypeError, match=r"name or a streamer\.Provider; this int lacks space, embed, aclose"):
        EmbeddingService(provider=3)  # type: ignore[arg-type]
    # The settings of another provider are not about this one.
    (tmp_path / "streamer.toml").write_text('[provider]\nname = "openai"\nmodel = "unknown"\nrequests_per_minute = 5\n')
    async with EmbeddingService(provider=HashProvider()) as service:
        assert (await service.embed("a")).shape == (8,)
