"""`streamer tail` of topics in memory: what is shown, what is left out, and what is said when there is nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args

import anyio
import numpy as np
import orjson
import pytest

from streamer.app.migrations import settings_of
from streamer.commands import tail as module
from streamer.core.events import Headers, Record, TopicPartition
from streamer.errors import DeadLetterKind
from streamer.settings import Settings
from tests.commands.in_process import empty_folder as empty_folder
from tests.commands.in_process import streamer
from tests.migration.sides import side

pytestmark = pytest.mark.anyio

TP = TopicPartition("verdicts", 0)


class Polls:
    """A topic whose polls give these records, and nothing after them. `opened`: with what. `readers`: what a change of
    the model makes of the settings."""

    def __init__(self) -> None:
        self.old: list[Record] = []  # what the embedded broker takes for new
        self.new: list[Record] = []
        self.opened: list[bool] = []
        self.topics: list[str] = []
        self.readers: Callable[[Settings], Settings] = lambda settings: settings

    async def poll(self, timeout: float) -> Sequence[Record]:
        if self.old:
            old, self.old = self.old, []
            return old
        if self.new and timeout == 0.5:
            return [self.new.pop(0)]
        await anyio.sleep(timeout)
        return []


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> Polls:
    topic = Polls()

    @asynccontextmanager
    async def open_memory(_: Settings, name: str, *__: Any, from_beginning: bool, **___: Any) -> AsyncIterator[Polls]:
        topic.opened.append(from_beginning)
        topic.topics.append(name)
        yield topic

    async def of_readers(settings: Settings) -> Settings:
        return topic.readers(settings)

    monkeypatch.setattr(module, "open_changelog", open_memory)
    monkeypatch.setattr(module, "settings_of_readers", of_readers)
    return topic


def record(key: str, value: Any, headers: Headers = ()) -> Record:
    return Record(TP, 0, key.encode(), value if isinstance(value, bytes) else orjson.dumps(value), 0, headers)


def verdict(id: str, kind: str) -> Record:
    return record(id, {"id": id, "verdict": kind, "similarity": 0.5, "duplicate_of": None})


async def test_after_a_change_of_the_model_the_topic_is_that_of_the_model_that_answers(polls: Polls) -> None:
    polls.readers = lambda settings: settings_of(settings, [side("b", settings={"topics.verdicts": "verdicts-b"})])
    polls.new = [verdict("new", "ordinary")]
    done = await streamer("tail", "verdicts", "-n", "1")
    assert (done.stdout, polls.topics) == ("new  ordinary  0.500\n", ["verdicts-b"])
    assert done.stderr == "following 'verdicts-b': the model of 'verdicts' has been changed\n"


async def test_the_last_old_record_is_not_new(polls: Polls) -> None:
    """First hour D7."""
    polls.old, polls.new = [verdict("old", "ordinary")], [verdict("new", "ordinary")]
    done = await streamer("tail", "verdicts", "-n", "1")
    assert (done.stdout, done.stderr) == ("new  ordinary  0.500\n", "")
    polls.old = [verdict("old", "ordinary")]
    done = await streamer("tail", "verdicts", "-n", "1", "--from-beginning")
    assert done.stdout == "old  ordinary  0.500\n"
    assert polls.opened == [False, True]


@pytest.mark.parametrize(
    "arguments",
    [
        ["verdicts", "--kind", "near-duplicate"],
        ["verdicts", "--kind", "near_duplicate", "--from-beginning"],
        ["verdicts", "--kind", "anomaly"],
        ["verdicts", "--kind", "anomaly", "--from-beginning"],
    ],
)
async def test_only_one_kind_of_verdict(arguments: list[str], polls: Polls) -> None:
    """First hour R9."""
    polls.new = [verdict("a", "ordinary"), verdict("b", "near_duplicate"), verdict("c", "anomaly")]
    done = await streamer("tail", *arguments, "-n", "1")
    assert done.stdout.split()[:2] == (["b", "near_duplicate"] if "near" in arguments[2] else ["c", "anomaly"])


async def test_only_one_kind_of_dead_letter(polls: Polls) -> None:
    """First hour D13."""
    polls.new = [
        record("a", b"\xff", (("streamer-error-kind", b"undecodable"),)),
        record("b", {"body": "x"}, (("streamer-error-kind", b"missing_text"), ("streamer-error", b"no text"))),
    ]
    done = await streamer("tail", "dead-letters", "--kind", "missing_text", "-n", "1")
    assert done.stdout.startswith("missing_text  ?  no text")


@pytest.mark.parametrize("kind", get_args(DeadLetterKind))
async def test_each_kind_of_dead_letter_can_be_asked_for(kind: str, polls: Polls) -> None:
    """First hour D13. One without a kind, of somebody else, is none of them."""
    others = [other for other in get_args(DeadLetterKind) if other != kind]
    polls.new = [record("foreign", {"text": kind})]
    polls.new += [record(name, {"text": "x"}, (("streamer-error-kind", name.encode()),)) for name in [*others, kind]]
    done = await streamer("tail", "dead-letters", "--kind", kind.replace("_", "-"), "-n", "1", "--json")
    [line] = done.stdout.splitlines()
    assert orjson.loads(line)["key"] == kind


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verdicts", "--kind", "strange"], "verdicts are of the kinds near_duplicate, anomaly, ordinary, warming_up"),
        (["vectors", "--kind", "anomaly"], "--kind anomaly: vectors have no kinds"),
    ],
)
async def test_a_kind_that_there_is_not(arguments: list[str], says: str, polls: Polls) -> None:
    done = await streamer("tail", *arguments)
    assert done.code == 2
    assert says in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "waiting for new verdicts on 'verdicts' (--from-beginning for all)\n"),
        (["--from-beginning"], "waiting for verdicts on 'verdicts'\n"),
        (["--kind", "anomaly"], "waiting for new anomaly verdicts on 'verdicts' (--from-beginning for all)\n"),
    ],
)
async def test_that_it_waits_is_said_once(
    arguments: list[str], says: str, polls: Polls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First hour D7."""
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    polls.new = [verdict("a", "ordinary")] if "--kind" in arguments else []
    later = iter([None, None, verdict("late", "anomaly")])
    poll = polls.poll

    async def after_a_while(timeout: float) -> Sequence[Record]:
        found = await poll(timeout)
        record = None if found or timeout != 0.5 else next(later)
        return [record] if record else found

    monkeypatch.setattr(polls, "poll", after_a_while)
    done = await streamer("tail", "verdicts", "-n", "1", *arguments)
    assert done.stdout.startswith("late  anomaly")
    assert done.stderr == says


@pytest.mark.parametrize("text", ["my parcel got wet", None])
async def test_texts_are_shown_in_both_formats(text: str | None, polls: Polls) -> None:
    """First hour D6."""
    vector = np.array([0.6, 0.8], "<f4")
    headers: Headers = (("content-type", b"application/octet-stream"),)
    binary = record("b", vector.tobytes(), (*headers, ("streamer-text", text.encode())) if text else headers)
    body = {"id": "a", "vector": vector.tolist()} | ({"text": text} if text else {})
    polls.new = [record("a", body), binary]
    done = await streamer("tail", "vectors", "-n", "2")
    assert done.stdout.count("my parcel got wet") == (2 if text else 0)
    assert done.stderr == ("" if text else "no texts: the worker runs with output.include_text = false\n")
