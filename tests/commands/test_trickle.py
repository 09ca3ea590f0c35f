"""What the demo goes on with."""

from __future__ import annotations

from collections import Counter

import orjson

from streamer.commands.trickle import EVENTS, MISHAPS, PLACES, STRANGE_EVERY, STRANGERS, THINGS, Trickle


def test_it_is_the_same_every_time_and_ids_are_unique() -> None:
    first, second = Trickle(), Trickle()
    messages = [first.next() for _ in range(500)]
    assert messages == [second.next() for _ in range(500)]
    assert len({message.key for message in messages}) == 500
    for message in messages:
        document = orjson.loads(message.value)
        assert (document["id"], document["text"]) == (message.key.decode(), message.text)


def test_now_and_then_there_is_a_copy_or_a_stranger() -> None:
    trickle = Trickle()
    counts = Counter(trickle.next().kind for _ in range(1000))
    assert 40 < counts["copy"] < 140
    assert counts["strange"] == 1000 // STRANGE_EVERY


def test_only_copies_repeat_however_long_it_goes_on() -> None:
    trickle = Trickle()
    recent: list[str] = []
    for _ in range(3000):
        message = trickle.next()
        end = message.text[-40:]
        if message.kind == "copy":
            assert any(text.endswith(end) for text in recent[-200:])
        elif message.kind == "ordinary":
            assert message.text not in recent[-200:]
        recent.append(message.text)


def test_what_it_is_made_of_is_there_once() -> None:
    for parts in (THINGS, MISHAPS, PLACES, EVENTS, STRANGERS):
        assert len(set(parts)) == len(parts)
