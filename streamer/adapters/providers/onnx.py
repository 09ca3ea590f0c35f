"""A sentence encoder run by onnxruntime in this process: no torch, no network, no account."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from streamer.adapters.providers.onnx_encoder import SentenceEncoder
from streamer.adapters.providers.onnx_models import BUNDLED_MODEL, Precision, load
from streamer.adapters.providers.wire import check_dimensions
from streamer.core.vectors import Matrix, Purpose, Space
from streamer.cpus import usable_cores
from streamer.errors import StreamerError
from streamer.protocols import Answer

T = TypeVar("T")

# Tokens in one run, padding included. Measured with MiniLM: the caches of a core hold what a run of 512 leaves between
# two layers, and runs of fewer do not fill its arithmetic. It bounds memory as well.
TOKENS_PER_RUN = 512


class OnnxProvider:
    """The vectors of a local model, not normalised.

    Takes as many texts at once as the caller has, the more the better: they are sorted by length and run a few at a
    time, so that little is spent on padding, and one run beside the other, one for each of `threads`, because several
    threads in one run wait for each other. Texts come prepared; the purpose changes nothing further. A text is cut
    after `space.max_tokens` tokens, and the answer says so. Vectors are cut to `dimensions`, for models that are
    trained for it.

    A call whose caller was cancelled stops before its next run of texts.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        *,
        threads: int = 1,
        dimensions: int | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
        on_too_long: str = "truncate",
    ) -> None:
        self._encoder = encoder
        self._threads = threads
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="onnx")
        self._closed = threading.Event()
        self._space = Space(
            provider="onnx",
            model=encoder.model,
            dimensions=dimensions or encoder.dimensions,
            revision=encoder.revision,
            precision=encoder.precision,
            document_prefix=document_prefix,
            query_prefix=query_prefix,
            on_too_long=on_too_long,
            max_tokens=encoder.max_tokens,
        )

    @classmethod
    async def open(
        cls,
        model: str | None = None,
        *,
        dimensions: int | None = None,
        request_dimensions: bool = False,
        threads: int | None = None,
        precision: Precision | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
        on_too_long: str = "truncate",
    ) -> OnnxProvider:
        """Load a model off the event loop; `model` and the errors are those of `onnx_models.load`,
        and so is `precision`.

        `dimensions`: checked against the model; with `request_dimensions` its vectors are cut to it. `threads`: one per
        core by default.
        """
        encoder = await asyncio.to_thread(load, model or BUNDLED_MODEL, precision)
        if dimensions is not None:
            check_dimensions(dimensions, encoder.dimensions, encoder.model, may_cut=request_dimensions)
        return cls(
            encoder,
            threads=threads or usable_cores(),
            dimensions=dimensions,
            document_prefix=document_prefix,
            query_prefix=query_prefix,
            on_too_long=on_too_long,
        )

    @property
    def space(self) -> Space:
        return self._space

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, however long, without the two that frame every text. Safe to call from any thread."""
        return self._encoder.count_tokens(texts)

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:  # noqa: ARG002  a prefix says the purpose
        if self._closed.is_set():
            raise StreamerError(f"{self._space.model} was closed")
        abandoned = threading.Event()
        try:
            rows, truncated = await self._in_thread(self._encoder.tokenize, texts)
            lengths = [len(row) for row in rows]
            vectors = np.zeros((len(texts), self._space.dimensions), dtype=np.float32)
            # The longest first: what is left when the others have finished should be short.
            groups = deque(
                reversed(list(self._encoder.groups(lengths, min(TOKENS_PER_RUN, sum(lengths) / self._threads))))
            )
            workers = range(min(self._threads, len(groups)))
            await asyncio.gather(*(self._in_thread(self._run, rows, groups, vectors, abandoned) for _ in workers))
        finally:
            # Nothing stops a thread from outside: once the caller is gone, its work has to stop by itself.
            abandoned.set()
        return Answer(vectors, tokens=lengths, truncated=truncated)

    async def aclose(self) -> None:
        """End the threads before their next run of texts. Calls that still wait get a StreamerError."""
        self._closed.set()
        # It waits for the runs that are on, and the loop must not.
        await asyncio.to_thread(self._workers.shutdown)

    def _run(
        self, rows: list[list[int]], groups: deque[list[int]], vectors: Matrix, abandoned: threading.Event
    ) -> None:
        """Run groups, and leave their vectors where they belong, until none is left."""
        while True:
            if abandoned.is_set() or self._closed.is_set():
                raise StreamerError(f"{self._space.model} was closed, or the answer is no longer wanted")
            try:
                places = groups.popleft()
            except IndexError:  # another thread may have been faster since any look at the length
                return
            vectors[places] = self._encoder.run([rows[place] for place in places])[:, : self._space.dimensions]

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)
