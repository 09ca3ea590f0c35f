from __future__ import annotations

import gc
import weakref

from streamer.app.garbage import seldom_collected


class Loop:
    def __init__(self) -> None:
        self.itself = self


def test_events_are_not_looked_through_and_garbage_goes_all_the_same() -> None:
    before, runs = gc.get_threshold(), []

    def note(phase: str, info: dict[str, int]) -> None:
        runs.append(info["generation"]) if phase == "start" else None

    with seldom_collected():
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
