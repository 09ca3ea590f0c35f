"""The sentences of `/metrics`: what a person reads beside a number."""

from __future__ import annotations

from tests.support.metrics import METRICS


def test_every_metric_is_explained_in_a_sentence() -> None:
    """First hour D2."""
    for metric in METRICS:
        assert metric.help[:1].isupper(), metric
        assert metric.help.endswith("."), metric
        assert metric.help.lower().rstrip(".") not in metric.name.replace("_", " "), metric


def test_no_two_have_one_name() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
