"""Asks the store again and again while it is away: what is being judged waits, and nothing of it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from streamer.errors import Unreachable

log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.2  # seconds
_LONGEST_PAUSE: Final = 5.0

T = TypeVar("T")


class Abandoned(Exception):
    """The indexer stops, and the store has not answered: what was being judged is for the next run."""


class Patience:
    """For one thread that asks; `end` and `problem` are for all. `pause`: seconds before the first repetition."""

    def __init__(self, pause: float = _FIRST_PAUSE) -> None:
        self.problem: str | None = None  # why the store does not answer, while somebody waits for it
        self.failures = 0
        self._first_pause = pause
        self._ended = threading.Event()

    def ask(self, call: Callable[[], T]) -> T:
        """The answer, however long it takes. Raises Abandoned once `end` has been called."""
        pause, since = self._first_pause, time.monotonic()
        while True:
            try:
                answer = call()
            except Unreachable as exc:
                self.failures += 1
                if self.problem is None:
                    log.warning("the vector store does not answer; judging waits", reason=str(exc))
                self.problem = str(exc)
                if self._ended.wait(pause):
                    raise Abandoned from exc
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if self.problem is not None:
                log.info("the vector store answers again", seconds=round(time.monotonic() - since, 1))
                self.problem = None
            return answer

    def end(self) -> None:
        """Whoever waits gives up, and whoever asks from now on asks once."""
        self._ended.set()
