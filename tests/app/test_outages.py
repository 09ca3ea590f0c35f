"""What a process does without is told in one sentence."""

from __future__ import annotations

from streamer.app.outages import problems


def test_everything_that_is_unavailable_is_named() -> None:
    states = [lambda: "provider down: no answer", lambda: None, lambda: "no answer from Kafka"]
    assert problems(states) == "provider down: no answer; no answer from Kafka"


def test_nothing_is_said_while_all_is_well() -> None:
    assert problems([lambda: None, lambda: None]) is None
    assert problems([]) is None
