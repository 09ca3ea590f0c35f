"""The sentences of `/metrics`: what a person reads beside a number."""

from __future__ import annotations

import pytest

from tests.support.metrics import METRICS, Metric


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_explained_in_a_sentence(metric: Metric) -> None:
    """First hour D2."""
    assert metric.help[:1].isupper()
    assert metric.help.endswith(".")
    assert metric.help.lower().rstrip(".") not in metric.name.replace("_", " ")


def test_no_two_have_one_name() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
