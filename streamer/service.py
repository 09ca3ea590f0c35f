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
from typing import NoReturn, Self

import anyio
import numpy as np

from streamer import measures
from streamer.app.embedder import EmbeddingStack, open_embedding
from streamer.app.providers import batches_at_once
from streamer.core.vectors import Matrix, Purpose, Space, Vector
from streamer.errors import StreamerError
from streamer.protocols import Embedding, Rejection
from streamer.service_base import ServiceBase

PATIENCE_SECONDS = 60.0  # with an outage; a program, unlike a stream, has somebody waiting for it
CHUNK_CHARACTERS = 1_000_000


class TextsRejected(StreamerError):
    """Some texts can never have a vector. `rejections`: the reason for each of them, by its index in the texts given.

    The vectors of the other texts are in the cache: calling again without the rejected texts costs nothing.
    """

    def __init__(self, rejections: Mapping[int, Rejection], count: int) -> None:
        self.rejections = dict(rejections)
        place, first = next(iter(self.rejections.items()))
        super().__init__(
            f"{len(self.rejections)} of {count} texts have no vector; text {place}: {first.kind}, {first.reason}"
        )


@dataclass(frozen=True, slots=True)
class SimilarText:
    """A document that was searched: its index in the list of documents, its text, and its cosine with the query."""

    index: int
    similarity: float
    text: str


class EmbeddingService(ServiceBase):
    """Unit vectors of texts. Use it as an async context manager; any number of tasks may share it.

    Vectors are kept in the cache file of [cache]. Processes on one Linux machine share it: what one of them has
    embedded, the others do not pay for. Other machines have files of their own.

    Rate limits are waited out. Raises TextsRejected when some texts can never have a vector (`stream` reports them
    one by one instead), ProviderBlocked at once for a wrong key or an exhausted quota, RetriableError after an outage
    of a minute, and ConfigurationError while it opens, for a model that is not known or a package that is missing.
    """

    _opening: AbstractAsyncContextManager[EmbeddingStack] | None = None
    _stack: EmbeddingStack | None = None

    def __repr__(self) -> str:
        if self._stack is None:
            return self._described()
        space = self.space
        return f"<EmbeddingService {space.provider} {space.model}, {space.dimensions} dimensions, space {space.id}>"

    def __enter__(self) -> NoReturn:
        raise TypeError(
            "EmbeddingService is asynchronous: async with EmbeddingService(...) as service; "
            "without async and await: with SyncEmbeddingService(...) as service"
        )

    def __exit__(self, *_: object) -> None:
        """Never reached; Python looks for it before it calls `__enter__`."""

    async def __aenter__(self) -> Self:
        if self._opening is not None:
            raise RuntimeError("this EmbeddingService is open already")
        self._opening = open_embedding(self.settings, give_up_after=PATIENCE_SECONDS, own=self._provider)
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
        """The vector space. Only vectors of equal spaces may be compared; `space.id` names it in records and logs."""
        return self._open().embedder.space

    @property
    def dimensions(self) -> int:
        """The length of the vectors."""
        return self.space.dimensions

    def state(self) -> str | None:
        """Why calls are waiting (`rate limited until ...`, `blocked: ...`, `down: ...`); None when nothing is wrong."""
        return self._open().dispatcher.state()

    async def embed(self, text: str) -> Vector:
        """The unit vector of a document: float32, shape (dimensions,)."""
        vector: Vector = (await self._matrix([text], "document"))[0]
        return vector

    async def embed_query(self, text: str) -> Vector:
        """The unit vector of a query. It differs from `embed` only for models that tell queries from documents."""
        vector: Vector = (await self._matrix([text], "query"))[0]
        return vector

    async def embed_batch(self, texts: Iterable[str]) -> Matrix:
        """The unit vectors of documents: float32, shape (n, dimensions); row i belongs to text i."""
        return await self._matrix(texts, "document")

    async def similarity(self, a: str, b: str) -> float:
        """The cosine of two documents, between -1 and 1."""
        left, right = await self._matrix([a, b], "document")
        return float(measures.cosine_similarity(left, right))

    async def find_most_similar(self, query: str, documents: Sequence[str], k: int = 5) -> list[SimilarText]:
        """The `k` documents most similar to a query, best first.

        For vectors that you have already: `streamer.find_most_similar`.
        """
        vector = await self.embed_query(query)
        found = measures.find_most_similar(vector, await self.embed_batch(documents), k)
        return [SimilarText(n.index, n.similarity, documents[n.index]) for n in found]

    async def stream(
        self, texts: Iterable[str], purpose: Purpose = "document"
    ) -> AsyncGenerator[tuple[str, Embedding | Rejection], None]:
        """Each text with its Embedding or Rejection, in order. Reads `texts` as it goes: any number of texts will do,
        and only a few thousand are in memory at a time. `purpose`: "document" or "query".
        """
        stack = self._open()
        at_once = batches_at_once(self.settings, stack.contract)
        chunks = _chunks(texts, stack.contract.max_items or self.settings.batch.max_events)
        underway: deque[tuple[list[str], asyncio.Task[list[Embedding | Rejection]]]] = deque()
        try:
            for chunk in chunks:
                underway.append((chunk, asyncio.create_task(_outcomes(stack, chunk, purpose))))
                if len(underway) == at_once:
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


async def _outcomes(stack: EmbeddingStack, texts: list[str], purpose: Purpose) -> list[Embedding | Rejection]:
    # No provider agrees with another on what an empty text is; in a topic, it is a dead letter.
    present = [place for place, text in enumerate(texts) if text.strip()]
    outcomes: list[Embedding | Rejection] = [
        Rejection("empty_text", "the text is empty or only white space", attempts=0)
    ] * len(texts)
    found = await stack.embedder.embed([texts[place] for place in present], purpose)
    for place, outcome in zip(present, found, strict=True):
        outcomes[place] = outcome
    return outcomes


async def _first(
    underway: deque[tuple[list[str], asyncio.Task[list[Embedding | Rejection]]]],
) -> list[tuple[str, Embedding | Rejection]]:
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
