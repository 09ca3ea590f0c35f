"""Embeddings for Python programs, without Kafka: the same settings, planning, limits, cache and checks as the worker.

```python
async with EmbeddingService(provider="onnx") as service:
    matrix = await service.embed_batch(["first text", "second text"])
    print(await service.similarity("a cat", "a kitten"))
```
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

import anyio
import numpy as np

from streamer.app.embedder import EmbeddingStack, open_embedding
from streamer.app.providers import batches_at_once, contract_of
from streamer.core import measures
from streamer.core.vectors import Matrix, Purpose, Space, Vector
from streamer.errors import ConfigurationError, StreamerError
from streamer.protocols import Embedding, Rejection
from streamer.settings import ProviderSettings, Settings, load_settings

Outcome: TypeAlias = Embedding | Rejection

PATIENCE_SECONDS = 60.0  # with an outage; a program, unlike a stream, has somebody waiting for it
CHUNK_CHARACTERS = 1_000_000


class TextsRejected(StreamerError):
    """Some texts have no vector, for good. `rejections`: the reasons by the places of these texts in what was asked."""

    def __init__(self, rejections: Mapping[int, Rejection], count: int) -> None:
        self.rejections = dict(rejections)
        place, first = next(iter(self.rejections.items()))
        super().__init__(
            f"{len(self.rejections)} of {count} texts have no vector; text {place}: {first.kind}, {first.reason}"
        )


@dataclass(frozen=True, slots=True)
class SimilarText:
    """One of the documents that were searched, its place among them, and its cosine with the query."""

    index: int
    similarity: float
    text: str


class EmbeddingService:
    """Unit vectors of texts. Use it as an async context manager, from any number of tasks.

    Settings come from `streamer.toml` and the environment, as for the command line, or from `settings`; keyword
    arguments change them: `provider="openai"`, any other key of [provider] by its name (`model="..."`), keys of other
    sections with the section before them (`input__on_too_long="chunk"`, `cache__enabled=False`). The cache is that of
    [cache], so what was embedded once, by whichever process, is not paid for again.

    Rate limits are waited out. Texts that can have no vector raise TextsRejected, which tells their places (`stream`
    reports them one by one instead); a wrong key or an exhausted quota raises ProviderBlocked at once, an outage of
    more than PATIENCE_SECONDS RetriableError. What was embedded before is in the cache then.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.settings = load_settings(overrides=_by_name(overrides), base=settings)
        self._opening: AbstractAsyncContextManager[EmbeddingStack] | None = None
        self._stack: EmbeddingStack | None = None

    async def __aenter__(self) -> Self:
        if self._opening is not None:
            raise RuntimeError("this EmbeddingService is open already")
        self._opening = open_embedding(self.settings, give_up_after=PATIENCE_SECONDS)
        try:
            self._stack = await self._opening.__aenter__()
        except BaseException:
            self._opening = None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opening, self._opening, self._stack = self._opening, None, None
        if opening is not None:
            await opening.__aexit__(kind, error, traceback)

    @property
    def space(self) -> Space:
        """What the vectors may be compared with."""
        return self._open().embedder.space

    @property
    def dimensions(self) -> int:
        return self.space.dimensions

    def state(self) -> str | None:
        """Why texts have to wait just now (`rate limited until ...`, `down: ...`); None when all is well."""
        return self._open().dispatcher.state()

    async def embed(self, text: str) -> Vector:
        """The vector (dimensions,) of a document."""
        vector: Vector = (await self._matrix([text], "document"))[0]
        return vector

    async def embed_query(self, text: str) -> Vector:
        """The vector of a query, for models that tell queries from documents."""
        vector: Vector = (await self._matrix([text], "query"))[0]
        return vector

    async def embed_batch(self, texts: Iterable[str]) -> Matrix:
        """The vectors (n, dimensions) of documents, row i for text i."""
        return await self._matrix(texts, "document")

    async def similarity(self, a: str, b: str) -> float:
        """The cosine of two documents."""
        left, right = await self._matrix([a, b], "document")
        return float(measures.cosine_similarity(left, right))

    async def find_most_similar(self, query: str, documents: Sequence[str], k: int = 5) -> list[SimilarText]:
        """The `k` documents most similar to a query, best first."""
        vector = await self.embed_query(query)
        found = measures.find_most_similar(vector, await self.embed_batch(documents), k)
        return [SimilarText(n.index, n.similarity, documents[n.index]) for n in found]

    async def stream(
        self, texts: Iterable[str], purpose: Purpose = "document"
    ) -> AsyncGenerator[tuple[str, Outcome], None]:
        """Each text with its outcome, in order. Of any number of texts, only a few thousand are in memory at a time."""
        stack = self._open()
        chunks = _chunks(texts, contract_of(self.settings).max_items or self.settings.batch.max_events)
        underway: deque[tuple[list[str], asyncio.Task[list[Outcome]]]] = deque()
        try:
            for chunk in chunks:
                underway.append((chunk, asyncio.create_task(_outcomes(stack, chunk, purpose))))
                if len(underway) == batches_at_once(self.settings):
                    for pair in await _first(underway):
                        yield pair
            while underway:
                for pair in await _first(underway):
                    yield pair
        finally:
            tasks = [task for _, task in underway]
            for task in tasks:
                task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _matrix(self, texts: Iterable[str], purpose: Purpose) -> Matrix:
        if isinstance(texts, str):
            raise TypeError("expected several texts, not one string")
        rows: list[Vector] = []
        rejections: dict[int, Rejection] = {}
        async with aclosing(self.stream(texts, purpose)) as outcomes:
            async for _, outcome in outcomes:
                if isinstance(outcome, Rejection):
                    rejections[len(rows) + len(rejections)] = outcome
                else:
                    rows.append(outcome.vector)
        if rejections:
            raise TextsRejected(rejections, len(rows) + len(rejections))
        return np.array(rows, dtype=np.float32).reshape(-1, self.dimensions)

    def _open(self) -> EmbeddingStack:
        if self._stack is None:
            raise RuntimeError("open the EmbeddingService first: async with EmbeddingService(...) as service")
        return self._stack


async def _outcomes(stack: EmbeddingStack, texts: list[str], purpose: Purpose) -> list[Outcome]:
    # No provider agrees with another on what an empty text is; in a topic, it is a dead letter.
    present = [place for place, text in enumerate(texts) if text.strip()]
    outcomes: list[Outcome] = [Rejection("empty_text", "the text is empty or only white space", attempts=0)] * len(
        texts
    )
    found = await stack.embedder.embed([texts[place] for place in present], purpose)
    for place, outcome in zip(present, found, strict=True):
        outcomes[place] = outcome
    return outcomes


async def _first(underway: deque[tuple[list[str], asyncio.Task[list[Outcome]]]]) -> list[tuple[str, Outcome]]:
    texts, task = underway[0]
    outcomes = await task
    underway.popleft()
    return list(zip(texts, outcomes, strict=True))


def _chunks(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a text must be a string, not {type(text).__name__}")
        if chunk and (len(chunk) == most or size + len(text) > CHUNK_CHARACTERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def _by_name(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as `section.key`."""
    names: dict[str, Any] = {}
    for name, value in overrides.items():
        section, delimiter, key = name.partition("__")
        if name == "provider":
            names["provider.name"] = value
        elif name in ProviderSettings.model_fields:
            names[f"provider.{name}"] = value
        elif delimiter and section in Settings.model_fields:
            names[f"{section}.{key}"] = value
        else:
            raise ConfigurationError(
                f"EmbeddingService({name}=...): unknown; known are provider, section__key and the keys of [provider]: "
                f"{', '.join(ProviderSettings.model_fields)}"
            )
    return names
