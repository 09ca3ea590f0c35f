"""The fold of decisions: who comes first counts, everybody sees the same, and one side answers at any time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.migration.decisions import Change, encode_decision
from streamer.migration.history import History, apart
from tests.migration.sides import decision, record, side

CHANGES: list[Change] = ["start", "switch", "back", "finish"]
ON: list[Change] = ["start", "switch", "finish"]


def told(*values: bytes | None) -> History:
    history = History()
    for value in values:
        history.take(value)
    return history


def path(*changes: Change, old: str = "a", new: str = "b", first: str | None = None) -> list[bytes]:
    """Each following the one before."""
    tokens = [f"{old}{new}{number}" for number in range(len(changes))]
    return [
        record(change, token, before, old, new)
        for change, token, before in zip(changes, tokens, [first, *tokens], strict=False)
    ]


def test_there_and_back_and_there_again_and_the_end() -> None:
    history, served = History(), []
    for value in path("start", "switch", "back", "switch", "finish"):
        history.take(value)
        last = history.last("group-a")
        assert last is not None
        served.append((last.serving, last.running))
    assert served == [("old", True), ("new", True), ("old", True), ("new", True), ("new", False)]
    standing = history.standing("group-a")
    assert [kept.group for kept in standing.kept] == ["group-b"]
    assert standing.migration is None
    assert history.ignored == 0


def test_of_two_decisions_at_the_same_moment_the_first_counts() -> None:
    history = told(*path("start"), record("switch", "mine", "ab0"), record("finish", "theirs", "ab0"))
    last = history.last("group-a")
    assert last is not None
    assert (last.token, last.running, last.serving) == ("mine", True, "new")
    assert (history.counts("mine"), history.counts("theirs")) == (True, False)
    assert history.ignored == 1


@pytest.mark.parametrize("changes", [["switch"], ["start", "back"], ["start", "switch", "switch"], ["start", "start"],
                                     ["start", "finish", "back"], ["start", "finish", "finish"]])  # fmt: skip
def test_what_cannot_be_made_changes_nothing(changes: list[Change]) -> None:
    history = told(*path(*changes))
    assert history.ignored == 1
    assert history.last("group-a") == told(*path(*changes[:-1])).last("group-a")


def test_an_end_before_the_switch_keeps_the_old_side_and_another_start_is_possible() -> None:
    history = told(*path("start", "finish"))
    standing = history.standing("group-a")
    assert not standing.kept
    assert standing.running is None
    assert standing.migration is not None
    assert standing.migration.server == side("a")
    history.take(record("start", "again", "ab1", new="c"))
    running = history.standing("group-a").running
    assert running is not None
    assert running.new.group == "group-c"


def test_a_group_becomes_what_its_successors_have_become() -> None:
    history = told(*path(*ON), *path(*ON, old="b", new="c"), *path("start", old="c", new="d"))
    standing = history.standing("group-a")
    assert [kept.group for kept in standing.kept] == ["group-b", "group-c"]
    assert standing.running is not None
    assert (standing.running.old.group, standing.running.new.group) == ("group-c", "group-d")
    assert history.standing("group-d").running == standing.running, "found by its new side, too"
    assert history.standing("group-x").migration is None


def test_back_to_an_earlier_model_has_an_end() -> None:
    history = told(*path(*ON), *path(*ON, old="b", new="c"), *path(*ON, old="c", new="b"))
    assert [kept.group for kept in history.standing("group-a").kept] == ["group-b", "group-c", "group-b"]
    assert [kept.group for kept in history.standing("group-b").kept] == ["group-c", "group-b"]
    assert history.standing("group-b").migration is None


def test_sides_with_anything_in_common_are_refused() -> None:
    assert apart(side("a"), side("b"))
    for shared in ({"space": "space-a"}, {"group": "group-a"}, {"vectors": "vectors-a"}, {"verdicts": "vectors-a"}):
        assert not apart(side("a"), side("b", **shared))
    wrong = decision("start", "t", None, new="a")
    assert told(encode_decision(wrong)).last("group-a") is None


def test_what_is_no_decision_is_passed_over() -> None:
    history = told(b"hello", None, *path("start"), b"{}")
    assert history.last("group-a") is not None
    assert history.ignored == 3


attempts = st.tuples(st.sampled_from(CHANGES), st.sampled_from("abc"), st.sampled_from("abc"), st.booleans())


@given(st.lists(attempts, max_size=25))
def test_whatever_is_attempted_all_readers_agree_and_every_group_has_an_end(attempted: list[Any]) -> None:
    history, log, counted = History(), [], 0
    for number, (change, old, new, is_late) in enumerate(attempted):
        last = history.last(f"group-{old}")
        follows = "long ago" if is_late else None if last is None else last.token
        log.append(record(change, f"t{number}", follows, old, new))
        counted += history.take(log[-1]) is not None
    assert counted + history.ignored == len(log)
    other = told(*log)
    for name in "abc":
        assert other.last(f"group-{name}") == history.last(f"group-{name}")
        standing = history.standing(f"group-{name}")
        assert len(standing.kept) <= counted
        last = history.last(f"group-{name}")
        if last is not None:
            assert apart(last.server, last.other)
            assert {last.server.group, last.other.group} == {last.old.group, last.new.group}
