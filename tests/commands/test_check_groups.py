"""What `streamer check` says of groups and dead letters, with brokers that answer from memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streamer.adapters.kafka.groups import Group
from streamer.commands.check import Warned, _check_dead_letters, _check_group
from streamer.core.events import Record, TopicPartition

pytestmark = pytest.mark.anyio
A, B = TopicPartition("texts", 0), TopicPartition("texts", 1)


class Brokers:
    def __init__(self, group: Group | None = None, letters: list[tuple[str, str]] | None = None) -> None:
        self._group = group
        self._letters = letters or []

    async def group(self, id: str) -> Group:
        assert self._group is not None
        return self._group

    async def since(self, topic: str, timestamp: int) -> Mapping[TopicPartition, int]:
        return {TopicPartition(topic, 0): len(self._letters)}

    async def latest(self, counts: Mapping[TopicPartition, int], most: int) -> list[Record]:
        (tp,) = counts
        return [
            Record(tp, n, b"k", b"v", 0, (("streamer-error-kind", kind.encode()), ("streamer-error", reason.encode())))
            for n, (kind, reason) in enumerate(self._letters)
        ]


@pytest.mark.parametrize(
    ("group", "said", "warns"),
    [
        (Group("g", "Stable", ["a", "b"], {A: 12, B: 0}), "group g: Stable, 2 members, lag 12 (texts/0 12)", False),
        (Group("g", "Stable", ["a"], {A: 0}), "group g: Stable, 1 member, lag 0", False),
        (Group("g", "Dead", [], {}), "group g has no members yet", False),
        (
            Group("g", "Empty", [], {A: 7}),
            "group g has no members, and 7 records wait (texts/0 7): no worker runs; start one with: streamer run",
            True,
        ),
        (Group("g", None, None, {A: 7}), "group g: lag 7 (texts/0 7); this broker does not tell its members", False),
    ],
)  # fmt: skip
async def test_a_group_is_told_with_members_and_lag(group: Group, said: str, warns: bool) -> None:
    brokers: Any = Brokers(group)
    told = await _check_group(brokers, "g", "worker", "streamer run")
    assert told == said
    assert isinstance(told, Warned) == warns


async def test_dead_letters_of_the_last_hour_are_a_warning_with_kinds_and_reasons() -> None:
    letters = [("missing_text", "no text at 'text'")] * 3 + [("too_long", "the text “secret” is too long")]
    brokers: Any = Brokers(letters=letters)
    told = await _check_dead_letters(brokers, "dead-letters")
    assert isinstance(told, Warned)
    assert told == (
        "4 on dead-letters in the last hour; missing_text 75%: no text at 'text'; "
        "too_long 25%: the text “…” is too long"
    )
    nobody: Any = Brokers()
    assert await _check_dead_letters(nobody, "dead-letters") == "none on dead-letters in the last hour"
