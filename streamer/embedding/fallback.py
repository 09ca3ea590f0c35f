"""Several providers of one and the same vector space: another key, region or compatible endpoint of a model."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

import anyio
import structlog

from streamer.core.vectors import Purpose, Space
from streamer.embedding.backoff import BackoffPolicy
from streamer.errors import RetriableError, SpaceMismatch
from streamer.protocols import Answer, Provider

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Route:
    provider: Provider
    closed_until: float = -inf
    failures: int = 0


class Fallback:
    """A Provider that asks the first of its providers that works, and goes back to an earlier one once it may again.

    A provider that fails is left alone for as long as it asked or `backoff` says. When none is left, the error of the
    last one asked comes out, or, if all are being left alone, the latest error and how long they are. Raises
    SpaceMismatch at once if their spaces differ, even where the dimensions are equal.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        backoff: BackoffPolicy | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        first, *others = providers
        for other in others:
            if other.space != first.space:
                raise SpaceMismatch(
                    f"{other.space.provider} {other.space.model} (space {other.space.id}) cannot stand in for "
                    f"{first.space.provider} {first.space.model} (space {first.space.id}): "
                    "their vectors cannot be compared"
                )
        self._routes = [_Route(provider) for provider in providers]
        self._serving = 0
        self._error = ""
        self._backoff = backoff or BackoffPolicy()
        self._random = random

    @property
    def space(self) -> Space:
        return self._routes[0].provider.space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        error: RetriableError | None = None
        for number, route in enumerate(self._routes):
            if anyio.current_time() < route.closed_until:
                continue
            try:
                answer = await route.provider.embed(texts, purpose)
            except RetriableError as caught:
                error = caught
                self._error = str(caught)
                self._close(route, caught.retry_after)
            except anyio.get_cancelled_exc_class():
                self._error = "no answer in time"
                # Most likely the caller's deadline: without this, a provider that hangs would be asked first for ever.
                self._close(route, None)
                raise
            else:
                route.failures = 0
                self._serves(number)
                # The limits that an answer tells of are those of the first account.
                return answer if route is self._routes[0] else replace(answer, headers=None)
        if error is not None:
            raise error
        wait = min(route.closed_until for route in self._routes) - anyio.current_time()
        # In the words of the latest failure: why it fails has not changed.
        raise RetriableError(self._error, retry_after=wait)

    async def aclose(self) -> None:
        for route in self._routes:
            await route.provider.aclose()

    def _serves(self, number: int) -> None:
        if number == self._serving:
            return
        if number == 0:
            log.info("switched back to the first provider")
        else:
            log.warning("switched to a fallback provider", fallback=str(number), reason=self._error)
        self._serving = number

    def _close(self, route: _Route, wish: float | None) -> None:
        delay = self._backoff.delay(route.failures, retry_after=wish, jitter=self._random())
        route.closed_until = anyio.current_time() + delay
        route.failures += 1
