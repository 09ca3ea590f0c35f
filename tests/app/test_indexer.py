"""The indexer while the model changes, its two sides played: who is held, who answers, and what a failure ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus

import streamer.app.indexer as module
from streamer.app.index_side import IndexSide
from streamer.app.indexer import IndexHost
from streamer.app.signals import Lifetime
from streamer.core.events import Record
from streamer.core.vectors import Space
from streamer.embedding.backoff import BackoffPolicy
from streamer.errors import Unreachable
from streamer.indexer.broadcast import Broadcast
from streamer.migration.decisions import Change, Decision, encode_decision
from streamer.migration.history import History
from streamer.settings import Settings, load_settings
from tests.migration.sides import decision, side
from tests.support.indexing import P0, MemoryChangelog, Topic

pytestmark = pytest.mark.anyio

A, B = "group-a", "group-b"


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - what is watched has no event
            await anyio.sleep(0.001)


class PlayedIndexer:
    def __init__(self, group: str) -> None:
        self.space = Space(provider="p", model=group, dimensions=2)
        self.live = Broadcast()
        self.stopped = anyio.Event()
        self.state: str | None = None

    def ready(self) -> str | None:
        return self.state

    def stop(self) -> None:
        self.stopped.set()

    def statistics(self) -> Any:
        return SimpleNamespace(vectors=0)


class Stage:
    """The topic, and what the sides do. `fails`: how often the next ones of a group fail at their start."""

    def __init__(self) -> None:
        self.topic = Topic()
        self.changelog = MemoryChangelog(self.topic)
        self.tokens: list[str] = []
        self.begun: list[str] = []
        self.indexers: dict[str, PlayedIndexer] = {}
        self.fails: dict[str, int] = {}
        self.broken: dict[str, anyio.Event] = {group: anyio.Event() for group in (A, B)}
        self.states: dict[str, str | None] = {}
        self.asked: list[str] = []
        self.status: Callable[[], Mapping[str, Any]] = dict
        self.lifetime = Lifetime()
        settings = load_settings(None, {}, {"kafka.group_id": A, "topics.migrations": "m"})
        self.host = IndexHost(settings, History(), self.lifetime)

    def decide(self, *changes: Change) -> None:
        for change in changes:
            token = f"t{len(self.tokens)}"
            one: Decision = decision(change, token, self.tokens[-1] if self.tokens else None)
            if change == "start":
                new = side("b", settings={"kafka.group_id": B})
                one = Decision(change=change, group=A, token=token, follows=one.follows, at=1.0, old=one.old, new=new)
            self.tokens.append(token)
            value = encode_decision(one)
            self.topic.logs[P0].append(Record(P0, self.topic.ends[P0], b"", value, 0, ()))
            self.topic.ends[P0] += 1

    async def run_side(
        self, settings: Settings, begun: Callable[[], None], more: Any, *, task_status: TaskStatus[IndexSide]
    ) -> None:
        group, self.status = settings.kafka.group_id, more
        self.begun.append(group)
        if self.fails.get(group, 0):
            self.fails[group] -= 1
            raise ExceptionGroup("as task groups do", [Unreachable("no broker")])
        indexer = self.indexers[group] = PlayedIndexer(group)
        indexer.state = self.states.get(group)

        async def app(*_: Any) -> None:
            self.asked.append(group)

        told = {"ready": indexer.state is None, "state": None, "vectors": 0, "lag": 0}
        task_status.started(IndexSide(group, indexer, app, lambda: told))  # type: ignore[arg-type]
        begun()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.break_down, group)
            await indexer.stopped.wait()
            tasks.cancel_scope.cancel()

    async def break_down(self, group: str) -> None:
        await self.broken[group].wait()
        self.broken[group] = anyio.Event()
        raise Unreachable(f"{group} is gone")

    async def answers(self) -> str:
        await self.host({}, None, None)  # type: ignore[arg-type]
        return self.asked[-1]

    def held(self) -> list[str]:
        indexes: list[str] = self.status()["indexes"]
        return indexes


async def served(*_: Any, task_status: TaskStatus[int]) -> None:
    task_status.started(1)
    await anyio.sleep_forever()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()

    async def topics(_: Any) -> list[str]:
        return ["m"] if stage.tokens else []

    @asynccontextmanager
    async def opened(*_: Any) -> AsyncIterator[MemoryChangelog]:
        stage.changelog = MemoryChangelog(stage.topic)
        yield stage.changelog

    for name, played in (("run_side", stage.run_side), ("serve", served), ("existing_topics", topics),
                         ("open_changelog", opened), ("LOOK_SECONDS", 0.001), ("POLL_SECONDS", 0.001),
                         ("RESTARTS", BackoffPolicy(initial=0.001, maximum=0.001))):  # fmt: skip
        monkeypatch.setattr(module, name, played)
    return stage


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.host.run)
        await until(lambda: stage.host._app is not None)
        yield
        assert stage.lifetime.stop is not None, "a signal lets it finish"
        stage.lifetime.stop()


async def test_there_and_back_and_the_end(stage: Stage) -> None:
    async with running(stage):
        assert await stage.answers() == A
        assert stage.status() == {"migration": None, "indexes": [A]}
        stage.states[B] = "restoring"
        stage.decide("start")
        await until(lambda: B in stage.indexers)
        stage.decide("switch")
        await until(lambda: stage.host._history.last(A) is not None and stage.host._history.counts("t1"))
        assert await stage.answers() == A, "until the new one is ready"
        with stage.indexers[A].live.listen() as listener:
            stage.indexers[B].state = None
            await until(lambda: stage.status()["migration"]["serving"] == "new")
            assert await stage.answers() == B
            with pytest.raises(anyio.EndOfStream):
                await listener.receive()
        assert stage.held() == [A, B]
        stage.decide("back")
        await until(lambda: stage.status()["migration"]["serving"] == "old")
        assert await stage.answers() == A
        stage.decide("switch", "finish")
        await until(lambda: stage.held() == [B])
        assert await stage.answers() == B
        assert stage.status()["migration"] is None
        assert stage.indexers[A].stopped.is_set()
    assert stage.begun == [A, B], "each once"
    assert stage.held() == []


async def test_a_side_that_does_not_answer_may_fail_and_is_begun_again(stage: Stage) -> None:
    async with running(stage):
        stage.fails[B] = 2
        stage.decide("start")
        await until(lambda: B in stage.indexers)
        assert stage.begun == [A, B, B, B]
        assert stage.host._problems == {B: "no broker"}
        stage.decide("switch")
        await until(lambda: stage.status()["migration"]["serving"] == "new")
        stage.broken[A].set()  # it does not answer any more
        await until(lambda: stage.begun.count(A) == 2)
        assert await stage.answers() == B
        stage.decide("back")
        await until(lambda: stage.status()["migration"]["serving"] == "old")
        assert await stage.answers() == A


async def test_the_problem_of_a_side_is_told_until_it_is_held(stage: Stage) -> None:
    async with running(stage):
        stage.fails[B] = 10**6
        stage.decide("start")
        await until(lambda: stage.host._problems == {B: "no broker"})
        new = stage.status()["migration"]["new"]
        assert (new["ready"], new["problem"]) == (False, "no broker")
        stage.fails[B] = 0
        await until(lambda: stage.status()["migration"]["new"]["problem"] is None)


async def test_the_side_that_answers_takes_the_process_with_it(stage: Stage) -> None:
    stage.decide("start", "switch")

    async def serve_and_break() -> None:
        async with running(stage):
            await until(lambda: stage.status().get("migration") is not None and stage.held() == [A, B])
            await until(lambda: stage.status()["migration"]["serving"] == "new")
            stage.broken[B].set()
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as ended:
        await serve_and_break()
    assert module._reason(ended.value) == "group-b is gone"


async def test_a_start_after_the_switch_begins_with_the_side_that_answers(stage: Stage) -> None:
    stage.decide("start", "switch")
    for record in stage.topic.logs[P0]:
        stage.host._history.take(record.value)
    async with running(stage):
        assert await stage.answers() == B
        await until(lambda: stage.held() == [A, B])
    assert stage.begun[0] == B


async def test_to_give_the_new_side_up_leaves_the_old_one_alone(stage: Stage) -> None:
    async with running(stage):
        stage.decide("start")
        await until(lambda: B in stage.indexers)
        stage.decide("finish")
        await until(lambda: stage.held() == [A])
        assert await stage.answers() == A
    assert stage.begun == [A, B]


async def test_a_side_is_let_go_only_once_its_successor_answers(stage: Stage) -> None:
    async with running(stage):
        stage.states[B] = "restoring"
        stage.decide("start", "switch", "finish")
        await until(lambda: B in stage.indexers)
        steps = stage.changelog.idle_polls
        await until(lambda: stage.changelog.idle_polls > steps + 5)
        assert stage.held() == [A, B]
        assert await stage.answers() == A
        stage.indexers[B].state = None
        await until(lambda: stage.held() == [B])
        assert await stage.answers() == B


async def test_a_stop_does_not_wait_for_a_side_that_cannot_be_opened(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTARTS", BackoffPolicy(initial=600.0, maximum=600.0))
    with anyio.fail_after(20):
        async with running(stage):
            stage.fails[B] = 1
            stage.decide("start")
            await until(lambda: B in stage.host._problems)
