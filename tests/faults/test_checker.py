"""The judge is judged: each way to break a promise is found, and a good run is left in peace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest

from streamer.testing import vector_of
from tests.faults.checker import Ledger, Sample, Sight, Verdict, check, sight_of


@dataclass(frozen=True, slots=True)
class Stored:
    """A consumed record, as far as the checker looks."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Run:
    """Twenty events through one partition, and what became of them."""

    def __init__(self) -> None:
        self.ledger = Ledger({f"id-{n}": f"text {n}" for n in range(20)}, {f"id-{n}" for n in range(20)})
        self.inputs = [Stored("texts", 0, n, b"id-%d" % n, b"text %d" % n) for n in range(20)]
        self.order = list(range(20))
        self.texts = {n: f"text {n}" for n in range(20)}
        self.ids = {n: f"id-{n}" for n in range(20)}
        self.samples = [Sample({0: 10}, {("vectors", 0): 10}), Sample({0: 20}, {("vectors", 0): 99})]
        self.dead_letters: list[Stored] = []
        self.shown: Callable[[list[Sight]], list[Sight]] = list

    def judge(self, most_duplicates: int = 0) -> Verdict:
        vectors = [
            Stored(
                "vectors",
                0,
                place,
                self.ids[n].encode(),
                orjson.dumps({"id": self.ids[n], "model": "m", "vector": vector_of(self.texts[n]).tolist()}),
                (("streamer-source", b"texts/0/%d" % n),),
            )
            for place, n in enumerate(self.order)
        ]
        return check(
            self.ledger,
            self.inputs,
            vectors,
            self.dead_letters,
            right_vectors=lambda model, texts: np.stack([vector_of(text) for text in texts]),
            most_duplicates=most_duplicates,
            samples=self.samples,
            seen={0: self.shown([sight_of(vector) for vector in vectors])},
        )


def test_a_good_run_has_no_problems() -> None:
    verdict = Run().judge()
    assert not verdict.problems
    assert (verdict.produced, verdict.outcomes, verdict.duplicates, verdict.samples, verdict.seen) == (
        20,
        20,
        0,
        2,
        20,
    )


def test_what_is_repeated_after_a_crash_is_counted_and_bounded() -> None:
    run = Run()
    run.order = [*range(12), *range(8, 20)]
    run.samples = []
    assert not run.judge(most_duplicates=4).problems
    assert "4 duplicates" in run.judge(most_duplicates=3).problems[0]


def _lose(run: Run) -> None:
    run.order.remove(7)


def _invent(run: Run) -> None:
    run.order.append(20)
    run.texts[20], run.ids[20] = "text 20", "id-20"


def _swap_order(run: Run) -> None:
    run.order[3:5] = [4, 3]


def _swap_vectors(run: Run) -> None:
    run.texts[3], run.texts[4] = run.texts[4], run.texts[3]


def _swap_ids(run: Run) -> None:
    run.ids[3], run.ids[4] = run.ids[4], run.ids[3]


def _commit_early(run: Run) -> None:
    run.samples.append(Sample({0: 15}, {("vectors", 0): 14}))


def _forget_an_input(run: Run) -> None:
    del run.inputs[19]
    run.order.remove(19)


def _produce_nothing(run: Run) -> None:
    del run.ledger.attempted["id-2"]


def _hide_from_the_reader(run: Run) -> None:
    run.shown = lambda sights: sights[:7] + sights[8:]


def _show_what_is_taken_back(run: Run) -> None:
    """As a transaction would that is aborted after it was shown."""
    run.shown = lambda sights: [*sights, (20, ("texts", 0, 20), 0)]


def _show_another_value(run: Run) -> None:
    run.shown = lambda sights: [(*sights[0][:2], 0), *sights[1:]]


def _show_twice(run: Run) -> None:
    run.shown = lambda sights: [sights[0], *sights]


def _defy_a_fate(run: Run) -> None:
    """A hostile record that should have become a dead letter has a vector."""
    run.inputs[5] = replace(run.inputs[5], headers=(("fate", b"dead letter"),))


def _bury_a_text(run: Run) -> None:
    """A well-formed record without a vector."""
    run.inputs[5] = replace(run.inputs[5], headers=(("fate", b"vector"),))
    run.order.remove(5)


@pytest.mark.parametrize(
    ("breaking", "problem"),
    [
        (_lose, "lost"),
        (_invent, "invented"),
        (_swap_order, "out of order"),
        (_swap_vectors, "with a wrong vector"),
        (_swap_ids, "under another id"),
        (_commit_early, "committed before their outcome"),
        (_defy_a_fate, "against its fate"),
        (_bury_a_text, "lost"),
        (_forget_an_input, "acknowledged to the producer and not in the input topic"),
        (_produce_nothing, "never produced"),
        (_hide_from_the_reader, "in the log of 0 and never shown"),
        (_show_what_is_taken_back, "shown to a reader of 0 and not in the log"),
        (_show_another_value, "shown to a reader of 0 and not in the log"),
        (_show_twice, "shown to a reader of 0 in another order, or twice"),
    ],
)
def test_each_broken_promise_is_found(breaking: Callable[[Run], None], problem: str) -> None:
    run = Run()
    breaking(run)
    found = run.judge().problems
    assert any(told.startswith(problem) for told in found), found


@pytest.mark.parametrize("fate", ["dead letter", "no vector", "any"])
@pytest.mark.parametrize("key", [None, b"", b"\xff", b"id-5"])
def test_hostile_records_of_any_key_may_end_as_they_have_to(fate: str, key: bytes | None) -> None:
    run = Run()
    run.inputs.append(Stored("texts", 0, 20, key, b"{", (("fate", fate.encode()),)))
    run.dead_letters.append(Stored("dead", 0, 0, key, b"{", (("streamer-source", b"texts/0/20"),)))
    assert not run.judge().problems
    run.dead_letters.clear()
    assert run.judge().problems == ["lost: 1 (('texts', 0, 20))"]


def test_the_schedule_follows_from_the_seed() -> None:
    from tests.faults.soak import WEIGHTS, schedule

    assert schedule(1, 600) == schedule(1, 600) != schedule(2, 600)
    assert {step.name for step in schedule(1, 3600)} == set(WEIGHTS)
    ends: list[Any] = [(step.at, step.at + step.seconds) for step in schedule(3, 600)]
    assert all(after[0] > before[1] for before, after in pairwise(ends)), "one fault at a time"
