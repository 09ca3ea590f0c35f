"""Decisions on a real topic: written, read, and made by one of two who try at the same moment."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from streamer.adapters.kafka.topics import find_spec
from streamer.app.connection import connection_of
from streamer.app.migrations import (
    KEPT_FOREVER,
    create_topic,
    decide,
    read_history,
    refuse_retired,
    settings_for_new_side,
    settings_of,
    settings_of_readers,
)
from streamer.client import serving_topics
from streamer.errors import ConfigurationError, StreamerError
from streamer.settings import Settings, load_settings
from tests.migration.sides import side
from tests.support.brokers import Broker, NewTopicName

pytestmark = pytest.mark.anyio

NEW = side("b", settings={"kafka.group_id": "group-b", "topics.vectors": "vectors-b"}, work={"provider.budget": "b"})


def settings(**values: Any) -> Settings:
    return load_settings(None, {}, {name.replace("__", "."): value for name, value in values.items()})


def test_sides_are_applied_one_after_the_other() -> None:
    base = settings(provider__dimensions="8", index__capacity="7")
    first = side("b", settings={"provider.model": "b"}, unset=("provider.dimensions", "http.port"))
    second = side("c", settings={"provider.model": "c"}, work={"provider.budget": "c"})
    after = settings_of(base, [first, second])
    assert (after.provider.model, after.provider.dimensions, after.index.capacity) == ("c", None, 7)
    assert (after.provider.budget, settings_of(base, [first, second], work=True).provider.budget) == (None, "c")
    assert settings_of(base, []) is base


def test_a_file_stays_what_it_was(tmp_path: Path) -> None:
    base = settings(cache__path=str(tmp_path / "c.sqlite"), topics__input='["a", "b"]', http__token="secret-token")
    after = settings_of(base, [side("b", settings={"provider.model": "b"})])
    assert after.cache.path == tmp_path / "c.sqlite"
    assert after.topics.inputs == ["a", "b"]
    assert after.http.token == base.http.token


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.nonsense"):
        settings_of(settings(), [side("b", settings={"provider.nonsense": "1"})])


async def reads(here: Settings) -> tuple[str, str]:
    """The vector topic for programs, and that for commands."""
    found = await serving_topics(
        here.kafka.bootstrap_servers, group_id=here.kafka.group_id, migrations=here.topics.migrations
    )
    assert found is not None
    return found.vectors, (await settings_of_readers(here)).topics.vectors


@pytest.mark.kafka
@pytest.mark.real_kafka("end offsets to be relied on")
async def test_of_two_who_decide_at_the_same_moment_one_learns_that_it_was_late(
    broker: Broker, new_topic: NewTopicName
) -> None:
    here = settings(
        kafka__bootstrap_servers=broker.bootstrap_servers, kafka__group_id="group-a",
        topics__migrations=f"migrations-{uuid.uuid4().hex[:12]}",
    )  # fmt: skip
    assert (await read_history(here)).last("group-a") is None
    await refuse_retired(here)
    with pytest.raises(ConfigurationError, match="no change of the model is running"):
        await settings_for_new_side(here)
    await create_topic(here)
    spec = await find_spec(connection_of(here), here.topics.migrations)
    assert spec is not None
    assert (spec.partitions, spec.configs) == (1, KEPT_FOREVER)

    assert await serving_topics(broker.bootstrap_servers, group_id="group-a", migrations=here.topics.migrations) is None
    assert await settings_of_readers(here) is here
    started = await decide(here, "start", None, old=side("a"), new=NEW)
    assert await reads(here) == ("vectors-a", here.topics.vectors)
    switched = await decide(here, "switch", started)
    assert await reads(here) == ("vectors-b", "vectors-b")
    with pytest.raises(StreamerError, match="somebody else has decided"):
        await decide(here, "finish", started)
    assert (await read_history(here)).last("group-a") == switched
    worker = await settings_for_new_side(here)
    assert (worker.kafka.group_id, worker.topics.vectors, worker.provider.budget) == ("group-b", "vectors-b", "b")
    await refuse_retired(here)  # both work while the change is running

    back = await decide(here, "back", switched)
    assert await reads(here) == ("vectors-a", here.topics.vectors)
    await decide(here, "finish", await decide(here, "switch", back))
    assert await reads(here) == ("vectors-b", "vectors-b")
    with pytest.raises(ConfigurationError, match="has changed its model to model-b"):
        await refuse_retired(here)
    kept = await settings_for_new_side(here)
    assert (kept.kafka.group_id, kept.provider.budget) == ("group-b", None)

    several = here.model_copy(
        update={"topics": here.topics.model_copy(update={"migrations": await new_topic(partitions=2)})}
    )
    with pytest.raises(ConfigurationError, match="it has 2 partitions"):
        await create_topic(several)
