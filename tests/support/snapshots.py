"""A small judge, a stream that brings it through all of its stages, and snapshots of it."""

from __future__ import annotations

import numpy as np

from streamer.core.events import TopicPartition
from streamer.core.sketch import form_of, sketch, unpack, unpack_form
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import unit_rows
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.snapshots.format import Cut, Header
from streamer.indexer.verdicts.background import Background
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy

P0, P1 = TopicPartition("vectors", 0), TopicPartition("vectors", 1)
FACTS = {"topic": "vectors", "space": "0123456789ab", "index.window_seconds": None}
DIMENSIONS = 6
WORDS = ["parcel", "wet", "courier", "bell", "address", "office", "glass", "broken", "box", "late", "refund"]


def new_judge(policy: VerdictPolicy, capacity: int) -> Judge:
    judge = Judge(VectorIndex(DIMENSIONS, capacity), policy)
    judge._background = Background(DIMENSIONS, window=40)
    return judge


def stream(seed: int, count: int) -> list[VectorEvent]:
    """Copies, look-alikes, ids sent again, events with and without text, in an order of times that mostly grows."""
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng.standard_normal((count, DIMENSIONS)) + 1)
    events: list[VectorEvent] = []
    for i in range(count):
        text = " ".join(rng.choice(WORDS, 6)) + f" {rng.integers(100)}" if rng.random() < 0.7 else None
        vector = vectors[i]
        if events and rng.random() < 0.3:
            earlier = events[rng.integers(len(events))]
            vector = unit_rows(earlier.vector[None] + rng.normal(0, 0.02, DIMENSIONS))[0]
            text = earlier.text if rng.random() < 0.5 else text
        id = f"id-{rng.integers(i + 1)}" if rng.random() < 0.2 else f"id-{i}"
        events.append(
            VectorEvent(
                id=id,
                vector=vector,
                space="s",
                model="m",
                text=text,
                metadata={"n": i, "tags": ["ü", None, 1.5]} if rng.random() < 0.5 else None,
                timestamp=int(i * 1000 + rng.normal(0, 3000)),
                sketch=None if text is None else unpack(sketch(text)),
                form=None if text is None else unpack_form(form_of(text)),
            )
        )
    return events


def header_of(judge: Judge) -> Header:
    return Header(facts=FACTS, offsets={P0: 7, P1: 0}, read_at=1000.5, vectors=len(judge.index))


def cut(judge: Judge) -> Cut:
    state, recent = judge.state()
    return Cut(header_of(judge), judge.index.read_view(), state, recent)
