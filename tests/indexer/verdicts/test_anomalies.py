"""AnomalyDetector: three p-values, a rate that holds, and form that is trusted where it tells."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from streamer.core.sketch import TextForm, form_of, unpack_form
from streamer.indexer.verdicts.anomalies import AnomalyDetector, Unusualness
from streamer.indexer.verdicts.content import ContentScore

SENTENCE = "see you at the station later than we said because of that rain and this bus or so"
WORDS = SENTENCE.split()
LOUD = "WIN 1000000 NOW CALL 0900 111 222!! www.win.example"


def quiet(rng: np.random.Generator) -> TextForm | None:
    return unpack_form(form_of(" ".join(rng.choice(WORDS, rng.integers(3, 9))) + rng.choice([".", "?", "", ", ok"])))


def run(
    detector: AnomalyDetector, count: int, seed: int, strange: float = 0.0, content: float = 0.0
) -> tuple[list[Unusualness], list[bool]]:
    """`strange`: share of events of a loud form, `content`: how many deviations those are off in content."""
    rng = np.random.default_rng(seed)
    judged, loud = [], []
    for _ in range(count):
        is_loud = bool(rng.random() < strange)
        form = unpack_form(form_of(LOUD + str(rng.integers(99)))) if is_loud else quiet(rng)
        score = ContentScore(float(rng.normal(content * is_loud)), 0.5)
        found = detector.judge(score, form)
        detector.learn(score, form, found)
        if found is not None:
            judged.append(found)
            loud.append(is_loud)
    return judged, loud


@pytest.mark.slow
def test_the_rate_holds_for_both_together() -> None:
    rates = []
    for seed in range(4):
        judged, _ = run(AnomalyDetector(0.01), 3000, seed)
        rates.append(np.mean([found.p_value <= 0.01 for found in judged]))
    assert 0.007 <= np.mean(rates) <= 0.013


def test_p_values_begin_after_a_hundred_events() -> None:
    detector = AnomalyDetector(0.01)
    judged, _ = run(detector, 80, 1)
    assert (judged, detector.scores_missing) == ([], 0)
    assert len(run(detector, 1, 2)[0]) == 1


@pytest.mark.slow
def test_form_is_trusted_where_what_stands_out_is_strange_in_content_too() -> None:
    told, silent, clean = AnomalyDetector(0.01), AnomalyDetector(0.01), AnomalyDetector(0.01)
    for detector in (told, silent, clean):
        run(detector, 2000, 1)
    judged, loud = run(told, 2000, 2, strange=0.04, content=1.0)
    run(silent, 2000, 2, strange=0.04, content=0.0)
    run(clean, 2000, 2)
    assert told.form_trust > 0.8
    assert silent.form_trust < 0.5
    assert told.form_limit < silent.form_limit < clean.form_limit
    assert clean.form_trust < 0.1
    late = [(found.p_value <= 0.01, strange) for found, strange in zip(judged, loud, strict=True)][500:]
    assert np.mean([raised for raised, strange in late if strange]) > 0.5
    assert np.mean([raised for raised, strange in late if not strange]) < 0.02


@pytest.mark.slow
def test_form_leads_while_some_events_have_forms_that_did_not_come_before() -> None:
    detector = AnomalyDetector(0.01)
    run(detector, 2000, 1)
    assert detector.form_novelty == 0
    run(detector, 300, 2, strange=0.04)
    assert (detector.form_novelty, detector.form_limit) == (1, 0)
    plain, unusual = ContentScore(-0.5, 0.5), unpack_form(form_of(LOUD))
    by_content, by_form = detector.judge(plain, None), detector.judge(plain, unusual)
    assert by_content is not None
    assert by_content.score == 0
    assert by_form is not None
    assert by_form.form_rank is not None
    assert by_form.score > 1 - np.log(by_form.form_rank)  # strange forms are farther apart than their ranks
    judged, loud = run(detector, 700, 3, strange=0.04)
    theirs = [found for found, strange in zip(judged, loud, strict=True) if strange]
    others = [found for found, strange in zip(judged, loud, strict=True) if not strange]
    assert min(found.score for found in theirs) > np.quantile([found.score for found in others], 0.95)
    assert np.mean([found.p_value <= 0.01 for found in theirs]) > 0.5
    assert np.mean([found.p_value <= 0.01 for found in others]) < 0.02
    run(detector, 2000, 4, strange=0.04)
    assert detector.form_novelty == 0  # by now they did come before


@pytest.mark.slow
def test_where_most_forms_are_new_it_is_the_stream_that_changes() -> None:
    detector = AnomalyDetector(0.01)
    run(detector, 2000, 1)
    run(detector, 400, 2, strange=0.5)
    assert detector.form_novelty == 0
    judged, _ = run(detector, 400, 3, strange=0.5)
    assert np.mean([found.p_value <= 0.01 for found in judged]) < 0.02


@pytest.mark.slow
def test_strange_content_is_told_after_a_wave_of_new_forms() -> None:
    detector = AnomalyDetector(0.01)
    run(detector, 2000, 1)
    run(detector, 200, 2, strange=1.0)  # a producer's new format, which everybody has from now on
    for count in (0, 500, 500):
        judged, _ = run(detector, count, 3 + count, strange=1.0)
        assert np.mean([found.p_value <= 0.01 for found in judged] or 0) < 0.02
        found = detector.judge(ContentScore(6.0, 0.5), unpack_form(form_of(LOUD)))
        assert found is not None
        assert found.p_value <= 0.01


def test_unusual_company_makes_an_event_more_unusual_but_is_no_alarm() -> None:
    detector = AnomalyDetector(0.01)
    run(detector, 3000, 1)
    assert detector.content_trust == 0

    def told(score: float, company: float) -> Unusualness:
        found = detector.judge(ContentScore(score, 0.5, company), None)
        assert found is not None
        return found

    assert told(0.0, 0.0).content_p_value > 0.4
    assert 0.1 < told(0.0, 1.0).content_p_value < 0.3
    assert told(0.0, 1.0).score < told(0.0, 2.0).score < told(0.0, 8.0).score
    assert told(0.0, 4.0).content_p_value > 0.02
    assert told(3.0, 8.0) == told(3.0, 0.0)  # nor is it of any weight beside what is strange by itself


def test_where_strangers_come_all_along_content_is_trusted_and_what_tells_of_classes_counts_for_less() -> None:
    def scored(seed: int, share: float) -> AnomalyDetector:
        rng = np.random.default_rng(seed)
        detector = AnomalyDetector(0.01)
        for strange in rng.random(3000) < share:
            content = ContentScore(float(rng.normal(3 * strange, 1 - strange / 2)), 0.5)
            detector.learn(content, None, detector.judge(content, None))
        return detector

    def raised_by_company(detector: AnomalyDetector) -> float:
        alone, along = (detector.judge(ContentScore(0.0, 0.5, company), None) for company in (0.0, 1.0))
        assert alone is not None
        assert along is not None
        return along.score - alone.score

    clean, mixed = scored(3, 0.0), scored(1, 0.06)
    assert (clean.content_trust, clean.exempt) == (0, 0)
    assert (mixed.content_trust, mixed.exempt) == (1, 3)
    assert mixed.form_limit == clean.form_limit + 3
    assert 0.2 < raised_by_company(mixed) / raised_by_company(clean) < 0.7
    run(mixed, 4000, 2)
    assert mixed.content_trust == 0  # there are none any more


def test_an_event_without_a_form_is_judged_by_content_alone() -> None:
    detector = AnomalyDetector(0.01)
    run(detector, 1000, 1)
    found = detector.judge(ContentScore(6.0, 0.1), None)
    assert found is not None
    assert (found.form_p_value, detector.reason(found, None)) == (None, ("content", None))
    assert found.p_value <= 0.01


def test_the_reason_is_what_is_unusual_by_itself() -> None:
    detector = AnomalyDetector(0.01)
    run(detector, 1000, 1)
    form = unpack_form(form_of(LOUD))
    both, by_form = detector.judge(ContentScore(6.0, 0.1), form), detector.judge(ContentScore(0.0, 0.1), form)
    assert both is not None
    assert by_form is not None
    assert detector.reason(both, form)[0] == "both"
    reason, told = detector.reason(by_form, form)
    assert reason == "form"
    assert told is not None
    assert "ordinary here" in told


def test_a_resumed_one_says_the_same() -> None:
    through, resumed = AnomalyDetector(0.01), AnomalyDetector(0.01)
    run(through, 700, 3, strange=0.05, content=1.0)
    resumed.resume(orjson.loads(orjson.dumps(through.state())))
    assert run(resumed, 400, 4, strange=0.05) == run(through, 400, 4, strange=0.05)
    assert resumed.state() == through.state()


def test_new_forms_are_learned_anew_from_an_older_snapshot() -> None:
    through, resumed = AnomalyDetector(0.01), AnomalyDetector(0.01)
    run(through, 400, 3)
    state = through.state()
    for known in (4, 5):
        resumed.resume({**state, "trust": state["trust"][:known]})
        assert (resumed.form_novelty, resumed.content_trust) == (0, 0)
    assert run(resumed, 1, 4)[0]
