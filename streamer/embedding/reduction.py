"""A provider whose vectors are shortened by a projection that was fitted on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamer.core.projection import Projection
from streamer.core.vectors import Purpose, Space
from streamer.embedding.answer_check import check_answer
from streamer.errors import ConfigurationError
from streamer.protocols import Answer, Provider


class Reduced:
    """A Provider around a Provider. Its space is its own, named after the content of the projection.

    `matryoshka`: the inner one's vectors may be longer than its space says, as in `check_answer`. Raises
    ConfigurationError when the projection was fitted to another space, where it would mean nothing.
    """

    def __init__(self, provider: Provider, projection: Projection, *, matryoshka: bool = False) -> None:
        inner = provider.space
        if projection.space != inner.id or projection.axes.shape[1] != inner.dimensions:
            raise ConfigurationError(
                f"provider.reduction was fitted to the space {projection.space}, but {inner.provider} {inner.model} "
                f"gives the space {inner.id}; fit it anew with: streamer embed --fit-pca"
            )
        self._provider = provider
        self._projection = projection
        self._matryoshka = matryoshka
        self._space = replace(inner, dimensions=len(projection.axes), reduction=f"pca-{projection.fingerprint}")

    @property
    def space(self) -> Space:
        return self._space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        """As the inner one. Vectors that are unfit for use come out as NaN, so that they are still found to be."""
        answer = await self._provider.embed(texts, purpose)
        # Judged before they are projected, which would hide garbage and a changed width.
        dimensions = self._provider.space.dimensions
        checked = check_answer(answer.vectors, len(texts), dimensions, matryoshka=self._matryoshka)
        rows = np.where(checked.is_good[:, None], checked.rows, np.float32(np.nan))
        return replace(answer, vectors=self._projection.project(rows))

    async def aclose(self) -> None:
        await self._provider.aclose()
