"""RobustReference: ordinary events keep their p-values among strangers, and nothing runs away."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import orjson
import pytest

from streamer.indexer.verdicts.robust import LongReference, RobustReference, fit

RATE = 0.01


def alarms(ordinary: np.ndarray, strangers: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Shares of both that are raised at RATE, mixed, after the first 300."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate((ordinary, strangers))
    strange = np.arange(len(scores)) >= len(ordinary)
    order = rng.permutation(len(scores))
    reference = RobustReference(RATE, 80)
    raised = np.zeros(len(scores), bool)
    for place, i in enumerate(order):
        raised[i] = place > 300 and reference.p_value(float(scores[i])) <= RATE
        reference.add(float(scores[i]))
    return float(raised[~strange].mean()), float(raised[strange].mean()) if len(strangers) else 0.0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.1])
def test_ordinary_events_are_raised_at_the_rate_however_many_strangers_there_are(share: float) -> None:
    rng = np.random.default_rng(1)
    false, found = alarms(rng.normal(size=6000), rng.normal(3.5, 0.7, int(6000 * share)))
    assert 0.5 * RATE <= false <= 2 * RATE
    if share:
        assert found > 0.6


@pytest.mark.parametrize("shape", [0.7, 4.0])
def test_a_heavy_tail_of_ordinary_scores_never_exceeds_the_rate_threefold(shape: float) -> None:
    false, _ = alarms(np.random.default_rng(1).gamma(shape, size=6000), np.empty(0))
    assert 0.8 * RATE <= false <= 3 * RATE


def test_whose_the_tail_is_shows_where_strangers_stand_apart() -> None:
    rng = np.random.default_rng(4)

    def apart(scores: np.ndarray) -> bool:
        found = fit(sorted(scores.tolist()))
        assert found is not None
        return found.apart

    ordinary = rng.normal(size=2000)
    assert apart(np.concatenate((ordinary, rng.normal(4, 0.5, 100))))
    assert not apart(ordinary)
    assert not apart(np.concatenate((ordinary, rng.normal(2, 0.5, 100))))  # nobody can tell
    assert not apart(np.concatenate((ordinary, rng.normal(4, 0.5, 400))))  # the stream changes
    assert not apart(rng.gamma(4, size=2000))


def test_without_a_bulk_it_is_the_rank() -> None:
    reference = RobustReference(RATE, 80)
    for score in (0.0, 0.0, 1.0):
        reference.add(score)
    assert reference.p_value(1.0) == reference.rank(1.0) == 0.5
    assert fit([1.0] * 100) is None


def test_a_stream_that_changes_altogether_is_ordinary_again() -> None:
    rng = np.random.default_rng(2)
    reference = RobustReference(RATE, 80)
    for score in rng.normal(size=3000).tolist():
        reference.add(score)
    raised = []
    for score in rng.normal(6, 1, 3000).tolist():
        raised.append(reference.p_value(score) <= RATE)
        reference.add(score)
    assert np.mean(raised[:50]) > 0.9
    assert np.mean(raised[250:]) < 2 * RATE


def test_a_resumed_one_says_the_same() -> None:
    rng = np.random.default_rng(3)
    through, resumed = RobustReference(RATE, 80), RobustReference(RATE, 80)
    for score in rng.normal(size=777).tolist():
        through.add(score)
    resumed.resume(orjson.loads(orjson.dumps(through.whole_state())))
    for score in rng.normal(0.5, 1, 700).tolist():
        assert resumed.p_value(score) == through.p_value(score)
        through.add(score)
        resumed.add(score)


def test_a_tail_that_has_been_there_all_along_is_of_strangers() -> None:
    rng = np.random.default_rng(5)
    ordinary, strangers = rng.normal(size=3000), rng.normal(3, 0.5, 3000)
    lasting, wave = RobustReference(RATE, 80), RobustReference(RATE, 80)
    for i in range(3000):
        lasting.add(float(strangers[i] if i % 12 == 0 else ordinary[i]))
        wave.add(float(strangers[i] if i >= 2900 else ordinary[i]))
    assert lasting.bulk is not None
    assert wave.bulk is not None
    assert min(lasting.bulk.strangers, wave.bulk.strangers) > 0.05
    assert lasting.bulk.lasting > 1.5 * wave.bulk.lasting
    assert lasting.at_least < wave.at_least


def test_strangers_that_have_been_there_all_along_widen_the_bulk_no_more() -> None:
    rng = np.random.default_rng(5)
    reference = RobustReference(RATE, 80)
    for i in range(3000):
        reference.add(float(rng.normal(3, 0.5) if i % 12 == 0 else rng.normal()))
    bulk = reference.bulk
    assert bulk is not None
    score = bulk.middle + 2.2 * bulk.deviation
    told = NormalDist().cdf(-2.2)
    assert told / 2 < reference.p_value(score) < told
    reference.bulk = bulk._replace(lasting=0.0)
    assert reference.p_value(score) > told


def test_where_the_bulk_leans_the_tail_is_of_ordinary_scores() -> None:
    rng = np.random.default_rng(9)
    leaning = RobustReference(RATE, 80)
    for score in rng.gamma(2.0, size=3000).tolist():
        leaning.add(score)
    assert leaning.bulk is not None
    assert leaning.bulk.strangers > 0.05
    assert leaning.bulk.lasting == 0
    assert leaning.at_least > 1 / 3


def test_a_slight_lean_says_something_of_few_scores_alone() -> None:
    rng = np.random.default_rng(10)

    def judged(count: int) -> RobustReference:
        """Of so many scores that lean slightly, in each third alike: 88 % normal ones and 12 % strangers."""
        strangers = round(0.12 * count)
        normal = NormalDist().inv_cdf
        scores = [normal((i + 0.5) / (count - strangers)) for i in range(count - strangers)]
        scores += np.linspace(2.3, 3.0, strangers).tolist()
        reference = RobustReference(RATE, 80)
        for _ in range(3):
            for i in rng.permutation(count):
                reference.add(scores[i])
        assert reference.bulk is not None
        assert reference.bulk.strangers > 0.05
        return reference

    assert judged(60).at_least == 1.0
    assert judged(2000).at_least < 1 / 3


def test_evidence_does_not_depend_on_whose_the_tail_is() -> None:
    rng = np.random.default_rng(11)
    ordinary, strangers = rng.normal(size=3000), rng.normal(4, 0.5, 3000)
    clean, mixed = RobustReference(RATE, 80), RobustReference(RATE, 80)
    for i in range(3000):
        clean.add(float(ordinary[i]))
        mixed.add(float(strangers[i] if i % 20 == 0 else ordinary[i]))
    assert mixed.at_least < clean.at_least
    far = [reference.standing(100.0) for reference in (clean, mixed)]
    assert far[0].rank == far[1].rank
    assert far[0].evidence == far[1].evidence
    assert far[1].p_value < far[0].p_value


def test_a_tail_that_grows_is_less_sure_to_be_of_strangers() -> None:
    """Of 2,000 scores, the first third of which has as many large ones."""
    rng = np.random.default_rng(12)
    steady, growing = RobustReference(RATE, 80), RobustReference(RATE, 80)
    for part in range(9):
        for i in range(666):
            ordinary, stranger = float(rng.normal()), float(rng.normal(3, 0.3))
            steady.add(stranger if i % 20 < 1 else ordinary)
            growing.add(stranger if i % 20 < max(1, part - 5) else ordinary)
    assert steady.bulk is not None
    assert growing.bulk is not None
    assert growing.bulk.strangers > steady.bulk.strangers
    assert growing.bulk.lasting < steady.bulk.lasting


def test_a_wave_of_strangers_is_compared_with_what_came_before_it() -> None:
    rng = np.random.default_rng(6)
    short, long = RobustReference(RATE, 80), LongReference(RATE, 80)
    for score in [*rng.normal(size=3000).tolist(), *rng.normal(4, 0.5, 300).tolist()]:
        short.add(score)
        long.add(score)
    assert short.rank(4.0) > 0.05
    assert long.rank(4.0) < 0.01
    for score in rng.normal(4, 0.5, 2000).tolist():
        long.add(score)
    assert long.rank(4.0) > 0.1  # and after a while it is part of the stream
    assert len(long) == 5300 - 1000


def test_a_resumed_long_one_says_the_same() -> None:
    rng = np.random.default_rng(7)
    through, resumed = LongReference(RATE, 80), LongReference(RATE, 80)
    for score in rng.normal(size=3777).tolist():
        through.add(score)
    resumed.resume(orjson.loads(orjson.dumps(through.whole_state())))
    for score in rng.normal(0.5, 1, 7000).tolist():
        assert (resumed.rank(score), resumed.p_value(score)) == (through.rank(score), through.p_value(score))
        through.add(score)
        resumed.add(score)
    assert resumed.whole_state() == through.whole_state()
    assert len(through) == 9777


def test_it_goes_on_from_a_short_one() -> None:
    short, long = RobustReference(RATE, 80), LongReference(RATE, 80)
    for score in np.random.default_rng(8).normal(size=1500).tolist():
        short.add(score)
    state = short.whole_state()
    long.resume({**state, "bulk": state["bulk"][:4]})  # as version 5 of snapshots has it
    assert (len(short), len(long)) == (500, 500 - 375)
    long.add(1.0)
    assert 0 < long.p_value(1.0) < 0.5
