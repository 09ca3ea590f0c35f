"""The demo's books: what was published, what came back, and whether they balance."""

from __future__ import annotations

import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamer.commands.demo_ledger import Found, Ledger, Sighting
from streamer.commands.demo_view import LiveView, PlainView
from streamer.core.events import Record
from tests.commands.demo_books import FEW, TP, balanced, deletion, ledger_of, sample, vector, verdict


def test_balanced_books_and_their_summary() -> None:
    ledger = balanced()
    assert ledger.complete()
    assert ledger.errors() == []
    summary = ledger.summary()
    assert summary.events == summary.vectors + summary.tombstones + summary.dead_letters.total() == 4
    assert (summary.vectors, summary.tombstones, dict(summary.dead_letters)) == (2, 1, {"empty_text": 1})
    assert (summary.cache_hits, summary.verdicts) == (1, 2)
    assert (summary.repeats, summary.rewordings) == (Found(1, 1), Found(0, 0))
    assert summary.other_near_duplicates == 0
    assert summary.events_per_second == pytest.approx(2.0)
    assert summary.to_vector is not None
    assert (summary.to_vector.p50, summary.to_vector.p95) == pytest.approx((20, 29))


@given(st.sets(st.integers(0, 4)), st.sets(st.integers(0, 4)))
def test_whatever_is_lost_or_doubled_is_named(lost: set[int], doubled: set[int]) -> None:
    ids = [f"id-{number}" for number in range(5)]
    ledger = ledger_of(*(sample(id) for id in ids))
    for number, id in enumerate(ids):
        for _ in range((number not in lost) * (1 + (number in doubled))):
            ledger.note_vector(vector(id), 1.0)
            ledger.note_verdict(verdict(id), 1.0)
    assert ledger.complete() == (not lost)
    problems = "; ".join(ledger.errors())
    assert all((f"id-{number}" in problems) == (number in lost | doubled) for number in range(5))


def test_two_wrongs_do_not_make_a_right() -> None:
    """One lost and another doubled: the sums agree, the events do not."""
    ledger = ledger_of(sample("a"), sample("b"))
    ledger.note_vector(vector("a"), 1.0)
    ledger.note_vector(vector("a"), 1.0)
    assert ledger.errors() == [
        "1 events without an outcome: b",
        "1 events with more than one outcome: a",
        "2 vectors without a verdict",
    ]


def test_a_deletion_is_not_the_outcome_of_the_event_it_deletes() -> None:
    ledger = ledger_of(sample("a"), sample("a", "tombstone"))
    ledger.note_vector(deletion("a"), 1.0)
    assert not ledger.complete()
    assert ledger.errors() == ["1 events without an outcome: a"]


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        ({"reason": "content", "form_reason": None}, "nothing before says such a thing"),
        ({"reason": "form"}, "nothing before is written like this"),
        ({"reason": "form", "form_reason": "much longer than usual"}, "much longer than usual"),
        ({"reason": "both"}, "nothing before says such a thing, or is written like this"),
        ({}, "nothing before is like it"),
    ],
)
def test_an_anomaly_is_seen_with_its_reason(reasons: dict[str, str | None], words: str) -> None:
    ledger = ledger_of(sample("a"), sample("s", "strange"))
    body = {"id": "s", "verdict": "anomaly", "similarity": 0.2, "duplicate_of": None, **reasons}
    found = ledger.note_verdict(Record(TP, 0, b"s", orjson.dumps(body), 0), 1.0)
    assert found == Sighting("text of s", reason=words)
    assert ledger.summary().out_of_place == Found(1, 1)


@pytest.mark.parametrize("kind", ["warming_up", "ordinary", "a kind of a later version"])
def test_what_is_neither_a_copy_nor_strange_is_called_nothing(kind: str) -> None:
    """First hour D4: what warms up was shown as ordinary."""
    ledger = ledger_of(sample("a"))
    body = {"id": "a", "verdict": kind, "similarity": 0.6, "duplicate_of": None}
    sighting = ledger.note_verdict(Record(TP, 0, b"a", orjson.dumps(body), 0), 1.0)
    assert sighting == Sighting("text of a")
    out = io.StringIO()
    console = Console(file=out, width=100)
    for view in (PlainView(console), LiveView(1)):
        view.saw(sighting)
        if isinstance(view, LiveView):
            console.print(view)
    assert "ordinary" not in out.getvalue()
    assert "warming" not in out.getvalue()


def test_a_strange_outcome_is_named() -> None:
    ledger = ledger_of(sample("a"))
    for id in ("a", "x"):
        ledger.note_vector(vector(id), 1.0)
        ledger.note_verdict(verdict(id), 1.0)
    assert ledger.errors() == ["1 events never published, yet with an outcome: x"]


def test_it_is_not_complete_before_the_verdicts_are_in() -> None:
    ledger = ledger_of(sample("a"))
    ledger.note_vector(vector("a"), 1.0)
    assert not ledger.complete()
    ledger.note_verdict(verdict("a"), 1.0)
    assert ledger.complete()


def test_it_is_not_complete_before_all_is_published() -> None:
    assert not Ledger(FEW).complete()


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        ({"b": "a"}, 1),
        ({"c": "a"}, 1),
        ({"b": "a", "c": "b"}, 2),  # like a copy
        ({"b": "z"}, 0),  # linked to a stranger
        ({"z": "a"}, 0),
        ({}, 0),
    ],
)
def test_copies_are_found_by_their_family(verdicts: dict[str, str], found: int) -> None:
    ledger = ledger_of(sample("a"), sample("b", "reworded", "a"), sample("c", "reworded", "a"), sample("z"))
    for id, first in verdicts.items():
        ledger.note_verdict(verdict(id, first), 1.0)
    assert ledger.summary().rewordings == Found(found, 2)
    assert ledger.summary().other_near_duplicates == ("z" in {*verdicts, *verdicts.values()})
