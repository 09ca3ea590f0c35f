from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import DeadLetter, Origin, Outcome, Record, Tombstone, TopicPartition
from streamer.errors import DeadLetterKind
from streamer.worker.dead_letter_share import OLD, WINDOW, DeadLetterShare

TP = TopicPartition("texts", 0)
RECORD, ORIGIN = Record(TP, 0, b"k", b"{}", 0), Origin(TP, 0, 1)
GOOD = Tombstone(ORIGIN, RECORD, "k")


def dead(kind: DeadLetterKind = "missing_text", reason: str = "no text at 'text'") -> DeadLetter:
    return DeadLetter(ORIGIN, RECORD, kind, reason)


def after(*outcomes: Outcome) -> str | None:
    share = DeadLetterShare()
    for outcome in outcomes:
        share.add([outcome], 1.0)
    problem = share.problem(1.0)
    return None if problem is None else str(problem)


def test_nine_of_ten_are_too_many_and_less_is_not() -> None:
    """First hour B1."""
    assert after(*[GOOD] * 11, *[dead()] * 89) is None
    assert after(*[GOOD] * 10, *[dead()] * 90) == (
        "90 of the latest 100 records became dead letters, mostly missing_text: no text at 'text'"
    )


def test_a_few_records_say_nothing() -> None:
    assert after(*[dead()] * (WINDOW - 1)) is None
    assert after(*[dead()] * WINDOW) is not None


def test_it_is_over_when_records_have_vectors_again() -> None:
    assert after(*[dead()] * 500, *[GOOD] * 10) is not None
    assert after(*[dead()] * 500, *[GOOD] * 11) is None


def test_the_commonest_kind_and_its_commonest_reason_are_named() -> None:
    """First hour B1."""
    letters = [dead("rejected", "a")] * 40 + [dead("missing_text", str(n)) for n in range(30)]
    letters += [dead("missing_text", "b")] * 30
    assert (after(*letters) or "").endswith("mostly missing_text: b")


def test_it_is_over_when_nothing_has_come_for_long() -> None:
    """A topic whose one bad import was read yesterday keeps no worker from being ready."""
    share = DeadLetterShare()
    for second in range(WINDOW):
        share.add([dead()], second)
    last = WINDOW - 1
    assert share.problem(last + OLD - 1) is not None
    assert share.problem(last + OLD) is None
    assert not share.add([dead()], last + OLD), "one bad record is not the hundredth"
    assert share.problem(last + OLD) is None
    for second in range(WINDOW - 1):
        share.add([dead()], last + OLD + second)
    assert share.problem(last + OLD + WINDOW) is not None


@given(st.lists(st.booleans(), max_size=4 * WINDOW))
def test_the_window_is_that_of_a_plain_count(history: list[bool]) -> None:
    share = DeadLetterShare()
    latest: deque[bool] = deque(maxlen=WINDOW)
    for is_dead in history:
        share.add([dead() if is_dead else GOOD], 1.0)
        latest.append(is_dead)
    assert (share.problem(1.0) is not None) == (len(latest) == WINDOW and sum(latest) >= 90)
