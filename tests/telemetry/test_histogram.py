"""Counts by upper bound, against counting by hand."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.telemetry.histogram import Histogram

BOUNDS = (0.1, 1.0, 10.0)


@given(st.lists(st.floats(0, 20)))
def test_each_value_is_counted_once_under_the_first_bound_that_holds_it(values: list[float]) -> None:
    one_by_one, at_once = Histogram(BOUNDS), Histogram(BOUNDS)
    for value in values:
        one_by_one.observe(value)
    at_once.observe_all(values)
    edges = [-inf, *BOUNDS, inf]
    expected = [sum(low < value <= high for value in values) for low, high in pairwise(edges)]
    assert one_by_one.counts == at_once.counts == expected
    assert one_by_one.count == len(values)
    assert one_by_one.sum == pytest.approx(sum(values))
    assert at_once.sum == pytest.approx(sum(values))


def test_quantiles_are_upper_bounds() -> None:
    histogram = Histogram(BOUNDS)
    assert histogram.quantile(0.5) is None
    histogram.observe_all([0.05] * 50 + [0.5] * 40 + [50.0] * 10)
    assert [histogram.quantile(q) for q in (0.5, 0.51, 0.9, 0.99)] == [0.1, 1.0, 1.0, inf]
