"""`streamer index`: the indexer put together, and what it does while the model changes.

While a migration runs it holds two indexes, each of one space and with everything of its own. One of them answers; the
migrations topic says which. The other takes its place once it has caught up, between two requests, so there is always
an answer, and each answer is of one space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus
from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Receive, Scope, Send

from streamer.adapters.kafka.topics import existing_topics
from streamer.app.connection import connection_of
from streamer.app.handles import check_file_handles
from streamer.app.http import warn_if_open
from streamer.app.index_side import IndexSide, run_side
from streamer.app.kafka import open_changelog
from streamer.app.migrations import catch_up, read_history, settings_of, take
from streamer.app.runtime import runtime_for_streaming
from streamer.app.signals import Lifetime, until_signalled
from streamer.embedding.backoff import BackoffPolicy
from streamer.errors import StreamerError, without_credentials
from streamer.http.server import serve
from streamer.measures import neighbor_agreement
from streamer.migration.decisions import Side
from streamer.migration.history import History, Migration
from streamer.settings import Settings

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 10.0  # between two looks whether there is a migrations topic: brokers list all that they have
POLL_SECONDS: Final = 0.5
COMPARE_SECONDS: Final = 2.0
SAMPLE: Final = 500  # events on whose neighbours two indexes are compared
NEIGHBORS: Final = 10
RESTARTS: Final = BackoffPolicy(initial=1.0, maximum=30.0)


async def run_indexer(settings: Settings) -> None:
    """Until a signal; or until a part of the index that answers fails, whose error is raised."""
    check_file_handles()
    async with until_signalled() as lifetime:
        with runtime_for_streaming():
            await IndexHost(settings, await read_history(settings), lifetime).run()


class IndexHost:
    """Holds the sides that the decisions ask for, and is the application that answers by the one that serves."""

    def __init__(self, settings: Settings, history: History, lifetime: Lifetime) -> None:
        self._settings = settings
        self._history = history
        self._lifetime = lifetime
        self._sides: dict[str, IndexSide] = {}  # those that can answer, by their group
        self._held: dict[str, anyio.CancelScope] = {}  # those that run, or are being opened
        self._problems: dict[str, str] = {}
        self._server = ""  # the group of the side that answers
        self._app: ASGIApp | None = None  # of that side, also when it has been stopped
        self._stopping = False
        self._ended = anyio.Event()
        self._kept: tuple[Sequence[Side], Settings] = ([], settings)
        self._agreement: dict[str, Any] | None = None
        self._compared = (0, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            raise AssertionError("served before there is anything to serve. This is a bug.")
        await self._app(scope, receive, send)

    async def run(self) -> None:
        http = self._settings.http
        async with anyio.create_task_group() as tasks:
            wanted, self._server = self._wanted()
            await tasks.start(self._hold, self._server, wanted[self._server])
            self._app = self._sides[self._server].app
            warn_if_open(self._settings, "texts, metadata, vectors; searches cost provider calls")
            port = await tasks.start(serve, self, http.host, http.port)
            side = self._sides[self._server]
            log.info("indexer started", space=side.indexer.space.id, url=f"http://{http.host}:{port}")
            tasks.start_soon(self._follow, tasks)
            tasks.start_soon(self._compare)
            await self._ended.wait()
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        self._stopping = True
        for group in list(self._held):
            self._let_go(group)

    def _begun(self) -> None:
        """From now on a signal lets all of them finish."""
        self._lifetime.works(self.stop)

    def _let_go(self, group: str) -> None:
        if group in self._sides:
            self._sides[group].indexer.stop()
        else:
            self._held[group].cancel()

    def _wanted(self) -> tuple[dict[str, Callable[[], Settings]], str]:
        """The sides to hold, with their settings, and the group of the one that is to answer."""
        settings, running = self._base(), self._running()
        own = settings.kafka.group_id
        wanted = {own: lambda: settings}
        if running is None or running.old.group != own:
            return wanted, own
        new = running.new
        wanted[new.group] = lambda: settings_of(settings, [new])
        return wanted, running.server.group

    def _base(self) -> Settings:
        """The settings of this process, as finished migrations have changed them."""
        kept = self._history.standing(self._settings.kafka.group_id).kept
        if kept != self._kept[0]:  # it reads the environment, so not at each step
            self._kept = (kept, settings_of(self._settings, kept))
        return self._kept[1]

    def _running(self) -> Migration | None:
        return self._history.standing(self._settings.kafka.group_id).running

    async def _hold(
        self,
        group: str,
        settings: Callable[[], Settings],
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a side. One that fails ends the process if it answers, and is begun again if it does not."""
        failures, noted = 0, _Noted(self._sides, group, task_status)
        try:
            with self._held.setdefault(group, anyio.CancelScope()):
                while True:
                    try:
                        await run_side(settings(), self._begun, self._status, task_status=noted)
                        return
                    except Exception as exc:
                        self._sides.pop(group, None)
                        if group == self._server:
                            raise
                        self._problems[group] = reason = _reason(exc)
                        log.error("the index that does not answer has failed; trying again", group=group, reason=reason)
                    if self._stopping:
                        return
                    await anyio.sleep(RESTARTS.delay(failures, jitter=0.5))
                    failures += 1
        finally:
            self._sides.pop(group, None)
            self._held.pop(group, None)
            if self._stopping and not self._held:
                self._ended.set()

    async def _follow(self, tasks: TaskGroup) -> None:
        """Do what is decided, for as long as the process lives."""
        self._converge(tasks)
        while True:
            try:
                if self._settings.topics.migrations in await existing_topics(connection_of(self._settings)):
                    await self._follow_topic(tasks)
            except StreamerError as exc:
                log.debug("migrations topic not read; retrying", reason=str(exc))
            await anyio.sleep(LOOK_SECONDS)

    async def _follow_topic(self, tasks: TaskGroup) -> None:
        async with open_changelog(self._settings, self._settings.topics.migrations, None) as changelog:
            history = History()
            await catch_up(history, changelog)  # first: half of it would be an earlier state
            self._history = history
            while True:
                self._converge(tasks)
                for decision in take(history, await changelog.poll(POLL_SECONDS)):
                    log.info("a change of the model is decided", change=decision.change, group=decision.group)

    def _converge(self, tasks: TaskGroup) -> None:
        """One step towards what is decided; nothing is let go before its successor answers."""
        if self._stopping:
            return
        wanted, server = self._wanted()
        for group, settings in wanted.items():
            if group not in self._held:
                self._held[group] = anyio.CancelScope()  # here, so that it is begun once
                tasks.start_soon(self._hold, group, settings)
        side = self._sides.get(server)
        if server != self._server and side is not None and side.indexer.ready() is None:
            before, self._server, self._app = self._sides[self._server], server, side.app
            before.indexer.live.dismiss()  # who listens comes again, to this one
            space = side.indexer.space
            log.info("another index answers from now on", space=space.id, model=space.model, before=before.group)
        if server == self._server:
            for group in self._held.keys() - wanted.keys():
                self._let_go(group)

    async def _compare(self) -> None:
        """From time to time, how far the two indexes agree on neighbours."""
        while True:
            await anyio.sleep(COMPARE_SECONDS)
            running = self._running()
            sides = [self._sides.get(side.group) for side in (running.old, running.new)] if running else []
            old, new = sides if sides else (None, None)
            if old is None or new is None:
                self._agreement, self._compared = None, (0, 0)
                continue
            sizes = (old.indexer.statistics().vectors, new.indexer.statistics().vectors)
            if any(abs(size - before) > before / 50 for size, before in zip(sizes, self._compared, strict=True)):
                self._compared = sizes
                with suppress(StreamerError):  # an index in a database that is away; the next look is later
                    self._agreement = await _agreement(old, new)

    def _status(self) -> Mapping[str, Any]:
        """What a side's status tells of the migration."""
        running, indexes = self._running(), sorted(self._held)
        if running is None:
            return {"migration": None, "indexes": indexes}
        server = running.new if self._server == running.new.group else running.old
        return {
            "migration": {
                "serving": "new" if server is running.new else "old",
                "old": self._side_document(running.old),
                "new": self._side_document(running.new),
                "agreement": self._agreement,
            },
            "indexes": indexes,
        }

    def _side_document(self, side: Side) -> dict[str, Any]:
        known = {"group": side.group, "space": side.space, "provider": side.provider, "model": side.model}
        held = self._sides.get(side.group)
        if held is None:
            empty = {"ready": False, "state": "being opened", "vectors": 0, "lag": None}
            return {**known, **empty, "problem": self._problems.get(side.group)}
        told = held.status()
        return {**known, **{name: told[name] for name in ("ready", "state", "vectors", "lag")}, "problem": None}


class _Noted(TaskStatus[IndexSide]):
    """Notes a side when it can answer, and tells whoever waits for that."""

    def __init__(self, sides: dict[str, IndexSide], group: str, waiting: TaskStatus[None]) -> None:
        self._sides = sides
        self._group = group
        self._waiting = waiting

    def started(self, value: IndexSide | None = None) -> None:
        if value is None:
            raise AssertionError("a side that is none. This is a bug.")
        self._sides[self._group] = value
        waiting, self._waiting = self._waiting, anyio.TASK_STATUS_IGNORED  # who waits is told once, whatever restarts
        waiting.started()


async def _agreement(old: IndexSide, new: IndexSide) -> dict[str, Any] | None:
    """On events that both hold; None while these are too few."""
    ids = await new.indexer.searches.ids(SAMPLE)
    before = await old.indexer.searches.vectors(ids)
    after = await new.indexer.searches.vectors([id for id in ids if id in before])
    if len(after) <= NEIGHBORS:
        return None
    rows = [before[id] for id in after], list(after.values())
    overlap = await run_sync(neighbor_agreement, *rows, NEIGHBORS)
    return {"overlap": round(overlap, 4), "neighbors": NEIGHBORS, "events": len(after)}


def _reason(error: BaseException) -> str:
    """In words: the error of ours among those of a group, else the first one."""
    leaves = list(_leaves(error))
    known = next((leaf for leaf in leaves if isinstance(leaf, StreamerError)), leaves[0])
    return without_credentials(str(known) or type(known).__name__)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
