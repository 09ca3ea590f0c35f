"""FormScorer: unusual looks score high, whatever is usual here, and it says what stands out."""

from __future__ import annotations

import numpy as np
import orjson

from streamer.core.sketch import TextForm, form_of, unpack_form
from streamer.indexer.verdicts.form import FEWEST, FormScorer

SENTENCE = "the parcel came late and wet but our courier was kind to us in all that rain"
WORDS = SENTENCE.split()


def form(text: str) -> TextForm:
    found = unpack_form(form_of(text))
    assert found is not None
    return found


def usual(count: int, seed: int, upper: bool = False) -> list[str]:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(4, 12))) + rng.choice([".", "", "!"]) for _ in range(count)]
    return [text.upper() for text in texts] if upper else texts


def learned(texts: list[str]) -> FormScorer:
    scorer = FormScorer()
    for text in texts:
        scorer.learn(form(text))
    return scorer


def score(scorer: FormScorer, text: str) -> float:
    found = scorer.score(form(text))
    assert found is not None
    return found


def test_an_unusual_look_scores_higher_than_all_but_a_few() -> None:
    scorer = learned(usual(500, 1))
    ordinary = sorted(score(scorer, text) for text in usual(200, 2))
    for strange in ("CALL 0900 123 456 NOW!!! www.win.example", "ящик пришёл мокрым и поздно", "%$#&/ {}[] <td>=?"):
        assert score(scorer, strange) > ordinary[-3]


def test_what_is_usual_depends_on_the_stream() -> None:
    loud, quiet = learned(usual(500, 1, upper=True)), learned(usual(500, 1))
    assert score(loud, "THE PARCEL CAME LATE AND WET") < score(quiet, "THE PARCEL CAME LATE AND WET")
    assert score(loud, "the parcel came late and wet") > score(quiet, "the parcel came late and wet")


def test_it_says_what_stands_out() -> None:
    scorer = learned(usual(500, 1))
    assert scorer.reason(form("parcel 091827364554637281910011")) == "80 % digits, ordinary here up to 0 %"
    assert scorer.reason(form("came late, see https://a.example and http://b.example and www.c.example")).endswith(
        "ordinary here up to 0"
    )
    assert scorer.reason(form("the parcel " * 300)).startswith("length of 3300 characters, ordinary here up to ")


def test_there_is_no_score_before_there_are_enough() -> None:
    texts = usual(FEWEST, 1)
    assert learned(texts[:-1]).score(form("hello")) is None
    assert learned(texts).score(form("hello")) is not None


def test_a_stream_without_variety_is_no_trouble() -> None:
    scorer = learned(["all the same"] * 200)
    assert score(scorer, "all the same") < score(scorer, "NOT AT ALL THE SAME, 4 TIMES")


def test_a_resumed_one_says_the_same() -> None:
    through, resumed = learned(usual(300, 5)), FormScorer()
    resumed.resume(orjson.loads(orjson.dumps(through.state())))
    for text in usual(200, 6):
        assert resumed.score(form(text)) == through.score(form(text))
        through.learn(form(text))
        resumed.learn(form(text))
    assert len(resumed) == len(through)
