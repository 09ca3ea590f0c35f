from __future__ import annotations

from aiokafka import TopicPartition as ClientPartition

from streamer.core.events import TopicPartition


def test_a_partition_prints_as_people_write_it_and_is_the_clients_tuple() -> None:
    tp = TopicPartition("texts", 3)
    assert f"{tp} {tp!s}" == "texts/3 texts/3"
    assert repr([tp]) == "[TopicPartition(topic='texts', partition=3)]"
    assert {tp: 1}[ClientPartition("texts", 3)] == 1
    assert sorted([TopicPartition("texts", 10), tp]) == [tp, TopicPartition("texts", 10)]
