"""Event time: what has expired, and who cannot make it expire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.indexer.verdicts.retention import EventTimeRetention

HOUR = 3_600_000


def test_without_a_window_nothing_expires() -> None:
    assert EventTimeRetention(None).advance(5) is None


def test_the_oldest_expire_a_window_after_their_time() -> None:
    horizon = EventTimeRetention(HOUR)
    before = [horizon.advance(minute * 60_000) for minute in range(180)]
    assert all(moved is None or moved <= minute * 60_000 - HOUR for minute, moved in enumerate(before))
    assert max(moved for moved in before if moved is not None) > 179 * 60_000 - HOUR - 2 * HOUR // 64


@given(st.lists(st.integers(0, 10 * HOUR), max_size=60))
def test_it_never_moves_back(times: list[int]) -> None:
    horizon = EventTimeRetention(HOUR)
    moves = [moved for time in times if (moved := horizon.advance(time)) is not None]
    assert moves == sorted(moves)


def test_a_single_event_of_the_far_future_does_not_move_it() -> None:
    horizon = EventTimeRetention(HOUR)
    horizon.advance(HOUR)
    assert horizon.advance(10**15) is None
    assert horizon.advance(HOUR) is None
    assert horizon.advance(3 * HOUR) == 2 * HOUR


@pytest.mark.parametrize("future", [4_000_000_000_000, 10**15, 10**18, 2**63])
@pytest.mark.parametrize("many", [1, 2, 3, 100])
def test_f14_events_of_the_far_future_do_not_move_it_however_many(future: int, many: int) -> None:
    horizon = EventTimeRetention(HOUR)
    horizon.latest_allowed = 11 * HOUR
    horizon.advance(10 * HOUR)
    assert [horizon.advance(future + number) for number in range(many)] == [None] * many
    assert horizon.advance(10 * HOUR) is None
    assert horizon.state[1] is not None
    assert horizon.state[1] * (HOUR // 64) <= 11 * HOUR
