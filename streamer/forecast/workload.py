"""Events for a simulation: those of real records, or made up from a rate and a length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamer.core.events import Event, Origin, Record, TopicPartition

BYTES_A_TOKEN = 4  # of English prose, in the tokenizers of the vendors

Arrivals = Sequence[tuple[float, Event]]


def event_of(tp: TopicPartition, offset: int, text: str, size: int | None = None) -> Event:
    """`size`: bytes of the record's value, by default those of the text."""
    value = bytes(size) if size is not None else text.encode()
    record = Record(tp, offset, None, value, 0)
    return Event(Origin(tp, offset, 0), record, f"{tp.topic}-{tp.partition}-{offset}", text)


def backlog(texts: Iterable[str], partitions: int = 1) -> Arrivals:
    """All of them are there at once, spread over the partitions in turn."""
    return [(0.0, _nth(number, text, partitions)) for number, text in enumerate(texts)]


def steady(count: int, rate: float, tokens: int, partitions: int, *, repeats: float = 0.0) -> Arrivals:
    """`count` texts of so many tokens, evenly spaced; a share of them, `repeats`, is the text before it once more."""
    arrivals = []
    last, due = "", 0.0
    for number in range(count):
        due += repeats
        if due < 1 or not last:
            last = text_of(tokens, number)
        due -= due >= 1
        arrivals.append((number / rate, _nth(number, last, partitions)))
    return arrivals


def text_of(tokens: int, number: int) -> str:
    """A text of about so many tokens, unlike those of other numbers."""
    return f"{number:x} ".ljust(BYTES_A_TOKEN * tokens, "x")


def _nth(number: int, text: str, partitions: int) -> Event:
    return event_of(TopicPartition("texts", number % partitions), number // partitions, text)
