"""The dead letters of the last hour."""

from __future__ import annotations

from streamer.telemetry.dead_letters import MOST_REASONS, OTHER, DeadLetterHour, DeadLetters


def test_kinds_by_number_each_with_its_commonest_reason() -> None:
    hour = DeadLetterHour()
    for n in range(5):
        hour.add("missing_text", "no text at 'text'", n * 60.0)
    hour.add("missing_text", "the text is null", 300.0)
    hour.add("too_long", "9,000 tokens", 301.0)
    assert hour.kinds(302.0) == [
        DeadLetters("missing_text", 6, "no text at 'text'"), DeadLetters("too_long", 1, "9,000 tokens"),
    ]  # fmt: skip


def test_what_is_older_than_an_hour_is_forgotten() -> None:
    hour = DeadLetterHour()
    hour.add("rejected", "a", 0.0)
    hour.add("rejected", "b", 1800.0)
    assert hour.kinds(3599.0)[0].count == 2
    assert hour.kinds(3601.0) == [DeadLetters("rejected", 1, "b")]
    assert hour.kinds(7200.0) == []


def test_a_flood_of_different_reasons_takes_bounded_memory_and_all_are_counted() -> None:
    hour = DeadLetterHour()
    for n in range(10_000):
        hour.add("rejected", f"reason {n}", 1.0)
    hour.add("rejected", "reason 3", 1.0)
    assert len(hour._minutes[0].counts) == MOST_REASONS + 1
    [letters] = hour.kinds(1.0)
    assert letters == DeadLetters("rejected", 10_001, "reason 3")
    assert (("rejected", OTHER)) in hour._minutes[0].counts
