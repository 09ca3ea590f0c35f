"""Vectors of a static model in this process, as fast as its tokenizer, on numpy alone.

For first looks, backfills and cheap first stages. Its vectors know words, not their order.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from streamer.adapters.providers.static_model import StaticModel, load
from streamer.adapters.providers.wire import check_dimensions
from streamer.core.vectors import Purpose, Space
from streamer.errors import StreamerError
from streamer.protocols import Answer

TEXTS_AT_ONCE = 1_024  # between two looks at whether the answer is still wanted: a few hundredths of a second


class StaticProvider:
    """The vectors of a static model, not normalised.

    Takes any number of texts at once. Texts come prepared; the purpose changes nothing further. A text is cut after
    `space.max_tokens` tokens, and the answer says so. A text without one token that the model knows has a zero vector.

    A call whose caller was cancelled stops after at most 1,024 texts.
    """

    def __init__(
        self,
        model: StaticModel,
        *,
        dimensions: int | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
        on_too_long: str = "truncate",
    ) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="static")
        self._closed = threading.Event()
        self._space = Space(
            provider="static",
            model=model.model,
            dimensions=dimensions or model.dimensions,
            revision=model.revision,
            precision=model.precision,
            document_prefix=document_prefix,
            query_prefix=query_prefix,
            on_too_long=on_too_long,
            max_tokens=model.max_tokens,
        )

    @classmethod
    async def open(
        cls,
        model: str,
        *,
        dimensions: int | None = None,
        request_dimensions: bool = False,
        document_prefix: str = "",
        query_prefix: str = "",
        on_too_long: str = "truncate",
    ) -> StaticProvider:
        """Load a folder off the event loop; the errors are those of `static_model.load`.

        `dimensions`: checked against the model; with `request_dimensions` its vectors are cut to it.
        """
        loaded = await asyncio.to_thread(load, model)
        if dimensions is not None:
            check_dimensions(dimensions, loaded.dimensions, loaded.model, may_cut=request_dimensions)
        return cls(
            loaded,
            dimensions=dimensions,
            document_prefix=document_prefix,
            query_prefix=query_prefix,
            on_too_long=on_too_long,
        )

    @property
    def space(self) -> Space:
        return self._space

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, however long. Safe to call from any thread."""
        return self._model.count_tokens(texts)

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:  # noqa: ARG002  a prefix says the purpose
        if self._closed.is_set():
            raise StreamerError(f"{self._space.model} was closed")
        abandoned = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, texts, abandoned)
        finally:
            # Nothing stops a thread from outside: once the caller is gone, its work has to stop by itself.
            abandoned.set()

    async def aclose(self) -> None:
        """End the thread. Calls that still wait get a StreamerError."""
        self._closed.set()
        # It waits for the run that is on, and the loop must not.
        await asyncio.to_thread(self._thread.shutdown)

    def _embed(self, texts: Sequence[str], abandoned: threading.Event) -> Answer:
        vectors = np.empty((len(texts), self._space.dimensions), np.float32)
        tokens: list[int] = []
        truncated: list[bool] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            if abandoned.is_set() or self._closed.is_set():
                raise StreamerError(f"{self._space.model} was closed, or the answer is no longer wanted")
            rows, cut = self._model.tokenize(texts[start : start + TEXTS_AT_ONCE])
            self._model.run(rows, into=vectors[start : start + len(rows)])
            tokens += [len(row) for row in rows]
            truncated += cut
        return Answer(vectors, tokens=tokens, truncated=truncated)
