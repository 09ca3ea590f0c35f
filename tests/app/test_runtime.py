"""What is set while a worker or an indexer works."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import weakref

import pytest

from streamer.app.runtime import runtime_for_streaming


class Loop:
    def __init__(self) -> None:
        self.itself = self


def test_events_are_not_looked_through_and_garbage_goes_all_the_same() -> None:
    turn = sys.getswitchinterval()
    before, runs = gc.get_threshold(), []

    def note(phase: str, info: dict[str, int]) -> None:
        runs.append(info["generation"]) if phase == "start" else None

    with runtime_for_streaming():
        assert sys.getswitchinterval() < turn
        gc.callbacks.append(note)
        try:
            in_flight = [(n, [n]) for n in range(10_000)]
            assert not runs
            gone = weakref.ref(Loop())
            more = [[n] for n in range(100_000)]
            assert runs
            assert gone() is None
        finally:
            gc.callbacks.remove(note)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    assert len(in_flight) + len(more) == 110_000
    assert sys.getswitchinterval() == turn


# Pages that are taken anew while arrays of megabytes come and go.
TAKEN = """
import resource
from streamer.app.runtime import runtime_for_streaming
with runtime_for_streaming():
    bytes(8 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        first, second = bytearray(b"x") * (8 << 20), bytearray(b"x") * (6 << 20)
        del first, second
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def taken(**environ: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    asked = [sys.executable, "-c", TAKEN]
    return int(subprocess.run(asked, env=clean | environ, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_memory_is_kept_unless_somebody_has_decided_otherwise() -> None:
    pages = 20 * (14 << 20) // os.sysconf("SC_PAGESIZE")
    assert taken() < pages / 10
    assert taken(MALLOC_MMAP_THRESHOLD_="1048576") > pages / 2
