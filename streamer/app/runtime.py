"""How Python and malloc are set while a worker or an indexer works."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OBJECTS: Final = 50_000  # more than before, until the youngest are looked at; Python's own value is 700
_TIMES: Final = 20
_TURN: Final = 0.0005  # seconds until a thread lets another one go on; Python's own value is ten times that
# Parameters of mallopt(3), and what they are set to, in bytes. glibc's own values are 128 KiB for all three, and the
# largest that it takes for the second is this one.
_TRIM_THRESHOLD: Final = (-1, 64 << 20)  # so much freed memory at the end of a heap is kept
_MMAP_THRESHOLD: Final = (-3, 32 << 20)  # from here on an array has pages of its own, and gives them back
_TOP_PAD: Final = (-2, 16 << 20)  # a heap that must grow does so by this, which takes no memory before it is used


@contextmanager
def runtime_for_streaming() -> Iterator[None]:
    """Python looks for garbage seldom, its threads take turns more often, and freed memory is kept for what comes next.

    Each of the thousands of events in flight is some twenty objects, none of them garbage that refers to itself.
    Looking through them over and over took an eighth of a worker's time, and a quarter of that in which an indexer is
    restored. A thread that works on arrays wants the interpreter's lock for a moment, often, and got it from one that
    reads records only after five milliseconds each time. What a fetch brings and what becomes of it are some ten arrays
    of megabytes: to give each back to the system, and to take it again page by page, holds both of them up.
    """
    _keep_freed()
    before, turn = gc.get_threshold(), sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, _TIMES, _TIMES)
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(turn)
        gc.set_threshold(*before)
        gc.unfreeze()


def _keep_freed() -> None:
    """From now on: there is no asking glibc what held before. Who has set one of its parameters has decided."""
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_")) for name in os.environ):
        return
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # other C libraries have none
        for parameter, size in (_TRIM_THRESHOLD, _MMAP_THRESHOLD, _TOP_PAD):
            mallopt(parameter, size)
