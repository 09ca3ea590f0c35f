"""How often Python looks for garbage that refers to itself, while a worker works."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OBJECTS: Final = 50_000  # more than before, until the youngest are looked at; Python's own value is 700
_TIMES: Final = 20


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Each of the thousands of events in flight is some twenty objects. None of them is garbage of that kind, and looking
    through them again and again took an eighth of a worker's time. What there is now is not looked through any more.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, _TIMES, _TIMES)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
