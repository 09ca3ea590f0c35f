"""The last hour of numbers."""

from __future__ import annotations

import math

import orjson
import pytest

from streamer.http.history import History, Rates, share


def test_samples_are_told_from_a_time_on() -> None:
    history = History(step=5, kept=60)
    history.add(100, {"rate": 1.23456789, "lag": None})
    history.add(105, {"rate": math.inf, "late": 3.0})
    assert history.since(0) == {
        "step": 5,
        "at": [100, 105],
        "series": {"rate": [1.2346, None], "lag": [None, None], "late": [None, 3.0]},
    }
    assert history.since(100)["at"] == [105]
    assert history.latest() == {"rate": None, "late": 3.0}
    assert history.since(105) == {"step": 5, "at": [], "series": {}}


def test_it_forgets_what_is_older_than_it_keeps() -> None:
    history = History(step=5, kept=60)
    for at in range(0, 600, 5):
        history.add(at, {"n": float(at)})
    assert len(history.since(-1)["at"]) == 12
    history.add(10_000, {})
    assert history.since(-1)["at"] == [10_000]


def test_a_clock_that_was_set_back_begins_anew() -> None:
    history = History()
    history.add(100, {})
    history.add(50, {})
    assert history.since(0)["at"] == [50]


def test_it_resumes_what_was_kept() -> None:
    earlier, later = History(), History()
    earlier.add(100, {"rate": 1.0, "lag": None})
    later.add(200, {"rate": 2.0})
    later.resume(orjson.loads(orjson.dumps(earlier.state())))
    assert later.since(0)["series"] == {"rate": [1.0, 2.0], "lag": [None, None]}


@pytest.mark.parametrize(
    "state", [{}, {"at": 3, "series": {}}, {"at": [1], "series": {"n": []}}, {"at": [1], "series": {"n": ["x"]}}]
)
def test_what_is_no_history_is_refused_and_changes_nothing(state: dict[str, object]) -> None:
    history = History()
    history.add(100, {"n": 1.0})
    with pytest.raises(ValueError, match="history"):
        history.resume(state)
    assert history.since(0)["at"] == [100]


def test_rates_are_differences_of_counters() -> None:
    rates = Rates()
    assert rates.per_second(10, {"n": 100}) == {"n": None}
    assert rates.per_second(15, {"n": 150, "new": 3}) == {"n": 10.0, "new": None}
    assert rates.per_second(20, {"n": 20}) == {"n": None}, "it began anew"
    assert rates.per_second(20, {"n": 30}) == {"n": None}, "no time has passed"


def test_a_share_of_nothing_is_none() -> None:
    assert share(3.0, [1.0]) == 0.75
    assert share(0.0, [0.0]) is None
    assert share(None, [None]) is None
