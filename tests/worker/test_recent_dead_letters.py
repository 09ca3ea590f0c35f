"""The latest dead letters, for people."""

from __future__ import annotations

from streamer.core.events import DeadLetter, Origin, Record, TopicPartition
from streamer.worker.recent_dead_letters import RecentDeadLetters

TP = TopicPartition("texts", 3)


def letter(offset: int, key: bytes | None = b"k", reason: str = "no text") -> DeadLetter:
    return DeadLetter(Origin(TP, offset, 0), Record(TP, offset, key, b"secret", 0), "missing_text", reason)


def test_they_say_why_and_where_and_show_nothing_of_the_record() -> None:
    letters = RecentDeadLetters()
    letters.add(letter(7, reason="no text “but this one”"), 12.5)
    assert letters.list() == [
        {"at": 12_500, "kind": "missing_text", "reason": "no text “…”", "source": "texts/3/7", "key": "k"}
    ]


def test_there_are_so_many_and_the_newest_come_first() -> None:
    letters = RecentDeadLetters(most=2)
    for offset in range(5):
        letters.add(letter(offset), 0)
    assert [each["source"] for each in letters.list()] == ["texts/3/4", "texts/3/3"]


def test_keys_may_be_anything_and_nothing_is_long() -> None:
    letters = RecentDeadLetters()
    letters.add(letter(0, None), 0)
    letters.add(letter(1, b"\xff" * 1000, "why " * 1000), 0)
    assert letters.list()[1]["key"] is None
    assert len(letters.list()[0]["key"]) == 100
    assert len(letters.list()[0]["reason"]) == 300
