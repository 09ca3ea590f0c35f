"""An indexer with texts in it behind its dashboard: everything but Kafka and the model is the real thing."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from starlette.types import ASGIApp

from streamer.adapters.snapshot_file import SnapshotFile
from streamer.app.indexer_overview import IndexerOverview
from streamer.app.kept_history import KeptHistory
from streamer.app.sampling import sample_regularly
from streamer.commands.sample import sample_records
from streamer.commands.trickle import Trickle
from streamer.core.events import EmbeddedEvent, Event, Origin, Record
from streamer.core.vectors import Purpose, Space, Vector
from streamer.http.api import create_api
from streamer.http.history import History
from streamer.http.role_state import RoleState
from streamer.http.server import serve
from streamer.indexer.settings import IndexerSettings
from streamer.protocols import Embedding, Rejection
from streamer.telemetry.waiting import Held
from streamer.worker.encoding import Encoder
from tests.support.indexing import P0, Running, Topic

SPACE_OF_WORDS = Space(provider="test", model="bag-of-words", dimensions=64)
SETTINGS = IndexerSettings(capacity=5_000, poll_timeout=0.02, commit_interval=0.0)


class WordsEmbedder:
    """A text is the sum of its words, each of them a direction of its own."""

    space = SPACE_OF_WORDS

    def vector(self, text: str) -> Vector:
        rows = [_direction(word) for word in re.findall(r"\w+", text.lower())]
        total = np.sum(rows, axis=0)
        unit: Vector = (total / np.linalg.norm(total)).astype(np.float32)
        return unit

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        del purpose
        return [Embedding(self.vector(text), 1, False) for text in texts]


@cache
def _direction(word: str) -> Any:
    seed = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
    # Long words say more about what a text means than short ones.
    return np.random.default_rng(seed).standard_normal(SPACE_OF_WORDS.dimensions) * len(word)


@dataclass(frozen=True, slots=True)
class SaidWorker:
    """A worker that says just this about itself."""

    said: Mapping[str, Any] | str
    url: str = "http://127.0.0.1:8081"

    async def overviews(self) -> Mapping[str, Mapping[str, Any] | str]:
        return {self.url: self.said}


def at_work(**more: Any) -> Mapping[str, Any]:
    """What a worker says that embeds 40 texts a second."""
    letter = {
        "at": int(time.time() * 1000) - 90_000,
        "kind": "undecodable",
        "reason": "not JSON: unexpected end of data: line 1 column 39 (char 38)",
        "source": "texts/1/42",
        "key": "bad-json",
    }
    return {
        "role": "worker", "not_ready": None, "without": None, "waits": [],
        "model": "bag-of-words", "provider": "test", "partitions": 4,
        "totals": {"embedded": 9_120, "cache_hits": 2_770},
        "now": {"embedded": 40.0, "dead_letters": 0.02, "lag": 120.0, "tokens": 900.0, "in_flight": 12.0,
                "hit_share": 0.3, "usd": 0.42},
        "dead_letters": [letter],
        **more,
    }  # fmt: skip


@dataclass
class Stream:
    """The vector topic as a worker would fill it. `include_text`: its output.include_text."""

    topic: Topic = field(default_factory=Topic)
    include_text: bool = True
    embedder: WordsEmbedder = field(default_factory=WordsEmbedder)

    def publish(self, id: str, text: str, **metadata: Any) -> None:
        now = int(time.time() * 1000)
        offset = self.topic.ends[P0]
        record = Record(P0, offset, id.encode(), text.encode(), now)
        event = Event(Origin(P0, offset, 0), record, id, text, metadata)
        encoder = Encoder(
            space=SPACE_OF_WORDS,
            vectors_topic="vectors",
            dead_letters_topic="dead-letters",
            format="json",
            include_text=self.include_text,
            include_metadata=True,
            max_bytes=1_000_000,
        )
        outcome = EmbeddedEvent(event, self.embedder.vector(text), 5, False, cache_hit=False)
        _, message = encoder.encode(outcome, now)
        self.topic.logs[P0].append(Record(P0, offset, message.key, message.value, now, message.headers))
        self.topic.ends[P0] += 1

    def publish_sample(self, trickled: int = 0) -> None:
        """The demo's sample, and so many messages of what follows it."""
        for record in sample_records():
            if record.text:
                self.publish(record.key.decode(), record.text, channel="email")
        trickle = Trickle()
        for _ in range(trickled):
            message = trickle.next()
            self.publish(message.key.decode(), message.text, channel="app")


@asynccontextmanager
async def dashboard(
    stream: Stream,
    *workers: SaidWorker,
    kept: Path | None = None,
    port: int = 0,
    step: float = 1.0,
    without: Callable[[], str | None] = lambda: None,
    behind: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> AsyncIterator[tuple[str, Running]]:
    """Its address, and the indexer. `kept`: the file of its history; `step`: seconds between two samples; `behind`:
    what stands between the page and the API."""
    this = Running(stream.topic, SETTINGS, space=SPACE_OF_WORDS, per_poll=200)
    history = History(step=step)
    overview = IndexerOverview(this.indexer, workers)
    memory = (
        None
        if kept is None
        else KeptHistory(SnapshotFile(kept), SPACE_OF_WORDS.id, history, this.indexer.showcase.recent)
    )
    if memory is not None:
        await memory.load()

    def state() -> RoleState:
        lack = without()
        held = [] if lack is None else [Held("cache", lack, time.time(), None)]
        return RoleState(not_ready=this.indexer.ready(), degraded=held)

    app = create_api(this.indexer, stream.embedder, state=state, history=history, facts=overview.facts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        bound = await tasks.start(serve, behind(app), "127.0.0.1", port)
        tasks.start_soon(sample_regularly, history, overview.sample)
        await this.settle()
        yield f"http://127.0.0.1:{bound}", this
        this.indexer.stop()
        tasks.cancel_scope.cancel()
    if memory is not None:
        await memory.save()
