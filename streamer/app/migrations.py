"""The migrations topic, and the settings of either side of a change of the model."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Final

import anyio

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.topics import TopicSpec, check_topics, existing_topics
from streamer.app.connection import connection_of
from streamer.app.kafka import CLOSE_SECONDS, open_sink
from streamer.core.events import Message, Record
from streamer.errors import ConfigurationError, StreamerError
from streamer.migration.decisions import Change, Decision, Side, encode_decision
from streamer.migration.history import History, Migration
from streamer.protocols import Changelog
from streamer.settings import Settings, load_settings

ANSWER_SECONDS: Final = 10.0
# A few records a year, and all of them are needed: nothing is ever deleted, and nothing compacted away.
KEPT_FOREVER: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


async def read_history(settings: Settings) -> History:
    """All decisions so far; none where the topic does not exist. Raises Unreachable."""
    return await history_at(connection_of(settings), settings.topics.migrations)


async def history_at(connection: KafkaConnection, topic: str) -> History:
    """The same for who has no settings."""
    history = History()
    if topic not in await existing_topics(connection):
        return history
    changelog = KafkaChangelog(connection, topic, None)
    try:
        await changelog.start()
        await catch_up(history, changelog)
    finally:
        with anyio.CancelScope(shield=True):
            await changelog.aclose(CLOSE_SECONDS / 2)
    return history


async def catch_up(history: History, changelog: Changelog) -> None:
    """Take what the topic holds now. Raises Unreachable."""
    ends = await changelog.end_offsets()
    while any(changelog.positions()[tp] < end for tp, end in ends.items()):
        take(history, await changelog.poll(0.5))


def take(history: History, records: Iterable[Record]) -> list[Decision]:
    """Those that count."""
    return [decision for record in records if (decision := history.take(record.value)) is not None]


async def create_topic(settings: Settings) -> None:
    """The migrations topic, if it is not there. Raises Unreachable."""
    spec = TopicSpec(settings.topics.migrations, 1, settings.kafka.replication_factor, KEPT_FOREVER)
    (state,) = await check_topics(connection_of(settings), [spec], create=True)
    if state.partitions != 1:
        raise ConfigurationError(
            f"topics.migrations = {spec.name}: it has {state.partitions} partitions; decisions need an order, so it "
            "must have one"
        )


async def decide(
    settings: Settings, change: Change, last: Migration | None, *, old: Side | None = None, new: Side | None = None
) -> Migration:
    """Write a decision down, and find that it counts. `last`: what it follows. Raises Unreachable, and StreamerError
    when somebody else has decided meanwhile."""
    side = old or (last.old if last else None)
    if side is None:
        raise AssertionError("a decision about nothing. This is a bug.")
    decision = Decision(
        change=change, group=side.group, token=uuid.uuid4().hex, follows=None if last is None else last.token,
        at=time.time(), old=old, new=new,
    )  # fmt: skip
    topic, headers = settings.topics.migrations, (("content-type", b"application/json"),)
    message = Message(topic, side.group.encode(), encode_decision(decision), headers)
    async with open_sink(settings, give_up_after=ANSWER_SECONDS) as sink:
        acknowledged = await sink.send([message])
        await acknowledged()
    history = await read_history(settings)
    made = history.last(side.group)
    if made is None or not history.counts(decision.token):
        raise StreamerError("somebody else has decided at the same moment; look at: streamer migrate status")
    return made


def settings_of(settings: Settings, sides: Iterable[Side], *, work: bool = False) -> Settings:
    """The settings as sides change them, one after the other. `work`: with those for workers, too. Raises
    ConfigurationError for what cannot be."""
    for side in sides:
        values = settings.model_dump(exclude_unset=True)
        for name in side.unset:
            section, _, key = name.partition(".")
            values.get(section, {}).pop(key, None)
        overrides = {**side.settings, **(side.work if work else {})}
        settings = load_settings(base=Settings.model_validate(values), overrides=overrides)
    return settings


async def settings_for_new_side(settings: Settings) -> Settings:
    """Those of a worker that embeds for the new model; once that was kept, those of every worker. Raises
    ConfigurationError when nothing is running."""
    standing = (await read_history(settings)).standing(settings.kafka.group_id)
    running = standing.running
    if running is not None and running.new.group == settings.kafka.group_id:
        return load_settings(base=settings, overrides=running.new.work)
    if running is not None:
        return settings_of(settings_of(settings, standing.kept), [running.new], work=True)
    if standing.kept:
        return settings_of(settings, standing.kept)
    raise ConfigurationError(
        f"--migration: no change of the model is running for the group {settings.kafka.group_id!r}; begin one with: "
        "streamer migrate start"
    )


async def settings_of_readers(settings: Settings) -> Settings:
    """Those of the side that answers now. Raises Unreachable."""
    standing = (await read_history(settings)).standing(settings.kafka.group_id)
    settings, running = settings_of(settings, standing.kept), standing.running
    if running is None or running.serving == "old" or running.new.group == settings.kafka.group_id:
        return settings
    return settings_of(settings, [running.new])


async def refuse_retired(settings: Settings) -> None:
    """Raises ConfigurationError for a worker of a model that has been given up: it would embed, and pay for, what
    nobody reads."""
    kept = (await read_history(settings)).standing(settings.kafka.group_id).kept
    if kept:
        raise ConfigurationError(
            f"the group {settings.kafka.group_id!r} has changed its model to {kept[-1].model} (group "
            f"{kept[-1].group!r}); set what streamer migrate status prints, or start the worker with: "
            "streamer run --migration"
        )
