"""Where the vectors and verdicts of the model are that answers."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.adapters.kafka.connection import KafkaConnection, connection_to
from streamer.app.migrations import history_at
from streamer.migration.decisions import Side


@dataclass(frozen=True, slots=True)
class ServingTopics:
    """The topics of one model, each for a consumer's `topic`; `group_id` is that of its workers."""

    vectors: str
    verdicts: str
    dead_letters: str
    group_id: str
    model: str
    space: str


async def serving_topics(
    brokers: str | KafkaConnection, *, group_id: str = "streamer", migrations: str = "streamer-migrations"
) -> ServingTopics | None:
    """The topics of the model that answers since the last `streamer migrate switch` or `back`; None where the model of
    `group_id` has never been changed, so that the topics are those of the settings.

    `migrations`: the setting `topics.migrations`. Ask again to learn of the next change. Raises Unreachable.
    """
    standing = (await history_at(connection_to(brokers), migrations)).standing(group_id)
    if standing.migration is not None:
        return _topics_of(standing.migration.server)
    return _topics_of(standing.kept[-1]) if standing.kept else None


def _topics_of(side: Side) -> ServingTopics:
    return ServingTopics(side.vectors, side.verdicts, side.dead_letters, side.group, side.model, side.space)
