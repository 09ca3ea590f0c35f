"""How often Python looks for garbage that refers to itself, while a worker or an indexer works."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OBJECTS: Final = 50_000  # more than before, until the youngest are looked at; Python's own value is 700
_TIMES: Final = 20


@contextmanager
def seldom_collected() -> Iterator[None]:
    """What there is now is not looked through any more, and what is new is so seldom.

    Each of the thousands of events in flight is some twenty objects, none of them garbage of that kind. Looking through
    them over and over took an eighth of a worker's time, and a quarter of that in which an indexer is restored."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, _TIMES, _TIMES)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
