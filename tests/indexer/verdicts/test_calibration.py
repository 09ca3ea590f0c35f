"""Calibration: p-values are ranks, alarms come at the rate that was asked for, and drift does not change that."""

from __future__ import annotations

from math import inf
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.indexer.verdicts import calibration
from streamer.indexer.verdicts.calibration import Reference

SCORES = st.lists(st.integers(0, 9).map(float), max_size=40)


@given(SCORES, st.integers(0, 10).map(float))
def test_the_p_value_is_a_rank_among_the_latest(scores: list[float], score: float) -> None:
    with patch.multiple(calibration, _MOST=15):
        reference = Reference(0.3)
    for earlier in scores:
        reference.add(earlier)
    latest = scores[-15:]
    assert len(reference) == len(latest)
    expected = (1 + sum(earlier >= score for earlier in latest)) / (len(latest) + 1)
    assert reference.p_value(score) == pytest.approx(expected)


@given(SCORES, st.integers(0, 10).map(float), st.sampled_from([0.05, 0.1, 0.3, 0.5]))
def test_what_lies_above_the_critical_score_has_a_small_p_value(scores: list[float], score: float, rate: float) -> None:
    with patch.multiple(calibration, _FEWEST=3):
        reference = Reference(rate)
    for earlier in scores:
        reference.add(earlier)
    if reference.suffices:
        assert (score > reference.critical()) == (reference.p_value(score) <= rate + 1e-9)
    else:
        assert reference.critical() == inf


def alarms(scores: list[float], rate: float) -> list[bool]:
    reference, raised = Reference(rate), []
    for score in scores:
        if reference.suffices:
            raised.append(score > reference.critical())
        reference.add(score)
    return raised


@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_alarms_come_at_the_rate_that_was_asked_for(rate: float) -> None:
    shares = [np.mean(alarms(np.random.default_rng(seed).normal(size=20_000).tolist(), rate)) for seed in range(5)]
    assert np.mean(shares) == pytest.approx(rate, rel=0.1)


def test_a_stream_that_drifts_raises_no_flood() -> None:
    rng = np.random.default_rng(1)
    drifting = rng.normal(size=20_000) + np.linspace(0, 5, 20_000)
    assert np.mean(alarms(drifting.tolist(), 0.01)) < 0.02


def test_a_larger_crowd_is_expected_to_hold_larger_scores() -> None:
    rng = np.random.default_rng(2)
    reference, raised = Reference(0.05), []
    for crowd in range(1, 5000):
        score = float(rng.random() ** (1 / crowd))  # the largest of `crowd` uniform numbers
        if reference.suffices:
            raised.append(score > reference.critical(crowd))
        reference.add(score, crowd)
    assert np.mean(raised) == pytest.approx(0.05, rel=0.25)


def test_rates_lie_between_none_and_all() -> None:
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Reference(rate)
