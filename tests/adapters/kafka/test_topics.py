"""What is told of topics that may not be seen or created."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamer.adapters.kafka.topics import TopicSpec, _create, unknown_topic
from streamer.errors import Unreachable

pytestmark = pytest.mark.anyio


def answering(code: int, detail: str | None = None) -> Any:
    """An administration client whose broker answers with this error code for each topic."""

    async def create_topics(topics: list[Any]) -> Any:
        return SimpleNamespace(topic_errors=[(topic.name, code, detail) for topic in topics])

    return SimpleNamespace(create_topics=create_topics)


@pytest.mark.parametrize("code", [29, 31])
@pytest.mark.parametrize(("user", "named"), [("worker", "'worker'"), (None, "'ANONYMOUS'")])
async def test_row_r3_a_missing_right_names_the_right_the_topic_and_the_user(
    code: int, user: str | None, named: str
) -> None:
    with pytest.raises(Unreachable) as caught:
        await _create(answering(code), [TopicSpec("vectors", 4)], user)
    said = str(caught.value)
    assert f"topic 'vectors' is not visible to user {named}" in said
    assert "Describe" in said
    assert "Create" in said


async def test_another_refusal_keeps_the_words_of_the_broker() -> None:
    with pytest.raises(Unreachable, match=r"topic 'vectors' could not be created: Replication factor: 3 larger"):
        await _create(
            answering(38, "Replication factor: 3 larger than available brokers: 1"), [TopicSpec("vectors", 4)], None
        )


@pytest.mark.parametrize("code", [0, 36])
async def test_a_topic_that_another_process_has_just_created_is_fine(code: int) -> None:
    await _create(answering(code), [TopicSpec("vectors", 4)], None)


def test_the_nearest_names_come_first_and_the_brokers_own_are_left_out() -> None:
    """First hour D9 and D10."""
    said = unknown_topic("txets", ["verdicts", "__consumer_offsets", "dead-letters", "texts"], "kafka:9092")
    assert said == (
        "topic 'txets' does not exist at kafka:9092; there are texts, verdicts, dead-letters; "
        "create it with: streamer topics --create --input txets"
    )


def test_a_large_cluster_is_not_listed_whole() -> None:
    said = unknown_topic("orders", [f"topic-{number}" for number in range(999)] + ["orders-eu"], "kafka:9092")
    assert "there are orders-eu, topic-" in said
    assert "and 992 more; create it" in said


def test_an_empty_cluster() -> None:
    """First hour D9 and D10."""
    assert "; there are no topics yet; create it with" in unknown_topic("texts", ["__consumer_offsets"], "kafka:9092")
