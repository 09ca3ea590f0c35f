"""What the demo goes on with."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from streamer.adapters.providers.onnx import OnnxProvider
from streamer.commands.demo import TRICKLE_INTERVAL
from streamer.commands.sample import NEAR_DUPLICATE_SIMILARITY
from streamer.commands.trickle import (
    EVENTS,
    MISHAPS,
    PEOPLE,
    PLACES,
    STRANGE_EVERY,
    STRANGERS,
    THINGS,
    WISHES,
    Trickle,
)
from streamer.core.sketch import form_of, sketch, unpack, unpack_form
from streamer.core.vectors import unit_rows
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from streamer.testing import vector_event


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
    kinds = [trickle.next().kind for _ in range(1000)]
    assert 40 < kinds.count("copy") < 140
    assert [n for n, kind in enumerate(kinds) if kind == "strange"] == list(range(30, 1000, STRANGE_EVERY))
    assert STRANGE_EVERY * TRICKLE_INTERVAL == 60, "seconds: whoever opens the page sees one soon"


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
    for parts in (THINGS, MISHAPS, PLACES, EVENTS, PEOPLE, WISHES, STRANGERS):
        assert len(set(parts)) == len(parts)


@pytest.mark.slow
@pytest.mark.anyio
async def test_who_watches_for_three_minutes_sees_what_was_planted_and_little_else() -> None:
    """Judged as the demo's indexer does it, though without the sample before."""
    trickle = Trickle()
    messages = [trickle.next() for _ in range(280)]
    provider = await OnnxProvider.open(threads=1)
    try:
        answer = await provider.embed([message.text for message in messages], "document")
    finally:
        await provider.aclose()
    judge = Judge(VectorIndex(384, 1000), VerdictPolicy(near_duplicate_similarity=NEAR_DUPLICATE_SIMILARITY))
    events = [
        vector_event(message.text, id=message.key.decode(), vector=vector, sketch=unpack(sketch(message.text)),
                     form=unpack_form(form_of(message.text)))
        for message, vector in zip(messages, unit_rows(answer.vectors), strict=True)
    ]  # fmt: skip
    verdicts = [judge.judge([event])[0].verdict for event in events]
    found = Counter((message.kind, verdict) for message, verdict in list(zip(messages, verdicts, strict=True))[100:])
    strangers = sum(message.kind == "strange" for message in messages[100:])
    assert found["strange", "anomaly"] >= strangers - 1
    assert found["copy", "near_duplicate"] >= 0.9 * sum(message.kind == "copy" for message in messages[100:])
    assert found["ordinary", "near_duplicate"] + found["ordinary", "anomaly"] <= 7
