"""Verdicts as JSON."""

from __future__ import annotations

import json

import orjson

from streamer.core.events import TopicPartition
from streamer.core.vector_events import Malformed, TextSource
from streamer.core.verdicts import NearestEvent, Verdict, encode_verdict, parse_verdict

VERDICT = Verdict(
    id="b", verdict="near_duplicate", similarity=0.9, duplicate_of="a", nearest=[NearestEvent("a", 0.9)], space="s",
    source=TextSource(TopicPartition("texts", 1), 7, 5), score=0.3, p_value=0.5,
)  # fmt: skip


def test_verdicts_read_back_and_junk_says_why() -> None:
    message = encode_verdict(VERDICT, "verdicts")
    assert parse_verdict(message.value or b"") == VERDICT
    for junk in (b"", b"[]", b"{}", orjson.dumps(orjson.loads(message.value or b"") | {"verdict": "perhaps"})):
        assert isinstance(parse_verdict(junk), Malformed)


def test_a_verdict_is_fit_for_json() -> None:
    document = json.loads(json.dumps(VERDICT.to_dict()))
    assert document == orjson.loads(encode_verdict(VERDICT, "verdicts").value or b"")
    assert document["nearest"] == [{"id": "a", "similarity": 0.9}]
    assert document["source"] == {"topic": "texts", "partition": 1, "offset": 7, "timestamp": 5}
