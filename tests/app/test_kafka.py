from __future__ import annotations

from streamer.app.kafka import unknown_topic


def test_the_nearest_names_come_first_and_the_brokers_own_are_left_out() -> None:
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
    assert "; there are no topics yet; create it with" in unknown_topic("texts", ["__consumer_offsets"], "kafka:9092")
