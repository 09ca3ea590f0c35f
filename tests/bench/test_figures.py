"""Medians, ratios of the same run, percentiles."""

from __future__ import annotations

import pytest

from streamer.bench.figures import Figure, Sample, percentile, rounded


def test_a_ratio_is_of_values_of_the_same_run() -> None:
    figure = Figure("speed", "events/s", "bare loop")
    for own, bare in ((10.0, 10.0), (50.0, 100.0), (300.0, 100.0)):  # medians: 50 and 100, whose ratio is not the one
        figure.add(Sample(own, 2 * own), Sample(bare))
    document = figure.document()
    assert (document["low"], document["median"], document["high"], document["cpu_us"]) == (10, 50, 300, 100)
    assert document["reference"] == {"name": "bare loop", "median": 100, "low": 10, "high": 100, "cpu_us": None}
    assert document["ratio"] == {"median": 1.0, "low": 0.5, "high": 3.0}


def test_without_a_reference_there_is_no_ratio() -> None:
    figure = Figure("size", "B")
    figure.add(Sample(3.0))
    assert (figure.document()["reference"], figure.document()["ratio"]) == (None, None)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 50), (0.8, 80), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(share: float, value: int) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == value


def test_percentiles_of_few_values_and_of_none() -> None:
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(("value", "shown"), [(0.123456, 0.1235), (123456.0, 123500.0), (0.0, 0.0)])
def test_four_digits(value: float, shown: float) -> None:
    assert rounded(value) == shown
