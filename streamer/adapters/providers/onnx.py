"""A sentence encoder run by onnxruntime in this process: no torch, no network, no account."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from streamer.adapters.providers.onnx_encoder import BUNDLED_MODEL, Encoder, load
from streamer.adapters.providers.wire import check_dimensions
from streamer.core.vectors import Purpose, Space
from streamer.errors import StreamerError
from streamer.protocols import Answer

# Padding grows with the size of a run: sorted news cost as much processor time a text in runs of 16 as in runs of 4,
# and a quarter more in runs of 32. Small runs also notice sooner that nobody waits any more.
TEXTS_PER_RUN = 8


class OnnxProvider:
    """The vectors of a local model, not normalised.

    Takes as many texts at once as the caller has, the more the better: they are sorted by length and run a few at a
    time, so that little is spent on padding. Texts come prepared; the purpose changes nothing further. A text is cut
    after `space.max_tokens` tokens, and the answer says so. Vectors are cut to `dimensions`, for models that are
    trained for it.

    All work is done by one thread of its own, one call after the other. A call whose caller was cancelled stops before
    its next run of texts.
    """

    def __init__(
        self,
        encoder: Encoder,
        worker: ThreadPoolExecutor,
        *,
        dimensions: int | None = None,
        document_prefix: str = "",
        query_prefix: str = "",
        on_too_long: str = "truncate",
    ) -> None:
        self._encoder = encoder
        self._worker = worker
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
        document_prefix: str = "",
        query_prefix: str = "",
        on_too_long: str = "truncate",
    ) -> OnnxProvider:
        """Load a model off the event loop; `model`, `threads` and the errors are those of `onnx_encoder.load`.

        `dimensions`: checked against the model; with `request_dimensions` its vectors are cut to it.
        """
        worker = ThreadPoolExecutor(1, thread_name_prefix="onnx")
        try:
            encoder = await asyncio.get_running_loop().run_in_executor(worker, load, model or BUNDLED_MODEL, threads)
            if dimensions is not None:
                check_dimensions(dimensions, encoder.dimensions, encoder.model, may_cut=request_dimensions)
        except BaseException:
            worker.shutdown(wait=False)
            raise
        return cls(
            encoder,
            worker,
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
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._answer, texts, abandoned)
        finally:
            # Nothing stops a thread from outside: once the caller is gone, its work has to stop by itself.
            abandoned.set()

    async def aclose(self) -> None:
        """End the thread before its next run of texts. Calls that still wait get a StreamerError."""
        self._closed.set()
        # It waits for the run that is on; the loop must not, and the worker cannot wait for itself.
        await asyncio.to_thread(self._worker.shutdown)

    def _answer(self, texts: Sequence[str], abandoned: threading.Event) -> Answer:
        encoder = self._encoder
        vectors = np.zeros((len(texts), self._space.dimensions), dtype=np.float32)
        rows, truncated = encoder.tokenize(texts)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        for start in range(0, len(order), TEXTS_PER_RUN):
            if abandoned.is_set() or self._closed.is_set():
                raise StreamerError(f"{self._space.model} was closed, or the answer is no longer wanted")
            places = order[start : start + TEXTS_PER_RUN]
            vectors[places] = encoder.run([rows[place] for place in places])[:, : self._space.dimensions]
        return Answer(vectors, tokens=[len(row) for row in rows], truncated=truncated)
