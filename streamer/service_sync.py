"""The service for programs without async and await: an event loop in a thread of its own does the work.

```python
with SyncEmbeddingService(provider="onnx") as service:
    matrix = service.embed_batch(["first text", "second text"])
```
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from streamer.core.vectors import Matrix, Space, Vector
from streamer.service import EmbeddingService, SimilarText
from streamer.service_base import ServiceBase


class SyncEmbeddingService(ServiceBase):
    """EmbeddingService with ordinary methods: same arguments, settings, cache and errors. Any thread may call it, and
    it works where an event loop is running already, as in Jupyter.

    Use it as a context manager, or call `open` and `close`. A program that leaves it open does not exit.
    """

    _open: tuple[ExitStack, BlockingPortal, EmbeddingService] | None = None

    def __repr__(self) -> str:
        return self._described() if self._open is None else repr(self._open[2]).replace("<", "<Sync", 1)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened[0].__exit__(kind, error, traceback)  # with the error, because it cancels calls under way

    def open(self) -> Self:
        """Load the model or connect to the provider, and open the cache."""
        if self._open is not None:
            raise RuntimeError("this SyncEmbeddingService is open already")
        with ExitStack() as opening:
            portal = opening.enter_context(start_blocking_portal("asyncio", name="SyncEmbeddingService"))
            service = EmbeddingService(self.settings, provider=self._provider)
            opening.enter_context(portal.wrap_async_context_manager(service))
            self._open = opening.pop_all(), portal, service
        return self

    def close(self) -> None:
        """Release all that `open` took, once the calls of other threads have ended. Does nothing when it is closed."""
        self.__exit__(None, None, None)

    @property
    def space(self) -> Space:
        """As EmbeddingService.space."""
        return self._opened()[1].space

    @property
    def dimensions(self) -> int:
        """The length of the vectors."""
        return self.space.dimensions

    def state(self) -> str | None:
        """As EmbeddingService.state."""
        portal, service = self._opened()
        return portal.call(service.state)

    def embed(self, text: str) -> Vector:
        """As EmbeddingService.embed."""
        portal, service = self._opened()
        return portal.call(service.embed, text)

    def embed_query(self, text: str) -> Vector:
        """As EmbeddingService.embed_query."""
        portal, service = self._opened()
        return portal.call(service.embed_query, text)

    def embed_batch(self, texts: Iterable[str]) -> Matrix:
        """As EmbeddingService.embed_batch."""
        portal, service = self._opened()
        return portal.call(service.embed_batch, texts)

    def similarity(self, a: str, b: str) -> float:
        """As EmbeddingService.similarity."""
        portal, service = self._opened()
        return portal.call(service.similarity, a, b)

    def find_most_similar(self, query: str, documents: Sequence[str], k: int = 5) -> list[SimilarText]:
        """As EmbeddingService.find_most_similar."""
        portal, service = self._opened()
        return portal.call(service.find_most_similar, query, documents, k)

    def _opened(self) -> tuple[BlockingPortal, EmbeddingService]:
        if self._open is None:
            raise RuntimeError("open the SyncEmbeddingService first: with SyncEmbeddingService(...) as service")
        return self._open[1], self._open[2]
