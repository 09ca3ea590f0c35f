"""Records to dead letters, texts, requests and a price, without anybody being asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from streamer.core.decoding import Decoder
from streamer.core.events import Record, TopicPartition
from streamer.embedding.prices import Price
from streamer.forecast.dry_run import TOO_LONG, Refused, decode, dry_run, keys_of
from streamer.forecast.flow_model import Delays, FlowModel
from streamer.protocols import Cost
from streamer.worker.batching import BatchPolicy
from tests.embedding.providers import contract, space

TP = TopicPartition("texts", 0)


def records(*values: bytes | None) -> list[tuple[str, Record]]:
    return [(f"file:{offset + 1}", Record(TP, offset, b"key", value, 0)) for offset, value in enumerate(values)]


def model(**options: Any) -> FlowModel:
    values: dict[str, Any] = {
        "contract": contract(max_items=2),
        "space": space(document_prefix="doc: "),
        "batch": BatchPolicy(4, 1_000_000, 0.01),
        "max_batches": 2,
        "calls": 2,
        "max_in_flight": 100,
        "delays": Delays(answer=1.0),
        "tokens_of": len,
    }
    return FlowModel(**values | options)


def test_every_kind_of_record_is_counted_and_a_dead_letter_says_why() -> None:
    found = decode(records(b'{"text": "one"}', b'{"body": "x"}', None, b" ", b"plain"), Decoder())
    run = dry_run(found, model(), Price(1.0))
    assert (run.records, run.tombstones, run.texts) == (5, 1, 2)
    assert [(letter.place, letter.kind) for letter in run.refused] == [
        ("file:2", "missing_text"),
        ("file:4", "empty_text"),
    ]
    assert "the record has body" in run.refused[0].reason
    assert run.kinds == {"missing_text": 1, "empty_text": 1}


def test_batches_requests_tokens_price_and_time() -> None:
    found = decode(records(b"a", b"b", b"b", b"c", b"d"), Decoder())
    run = dry_run(found, model(), Price(1.0))
    # Four events and one: three distinct texts in two requests, and one more.
    assert (run.batches, run.requests, run.distinct) == (2, 3, 4)
    assert run.tokens == 4 * len("doc: a")
    assert run.cost == Cost(24, 24_000)
    assert run.seconds == pytest.approx(2.01, abs=0.02)  # two calls at a time, and the wait for the second batch


def test_what_the_cache_has_costs_nothing() -> None:
    found = decode(records(b"a", b"b", b"c"), Decoder())
    wanted = model()
    assert sorted(keys_of(found.events, wanted).values()) == ["doc: a", "doc: b", "doc: c"]
    run = dry_run(found, wanted, None, cached=["doc: a", "doc: b"])
    assert (run.cached, run.requests, run.tokens, run.cost) == (2, 1, 6, None)


def test_texts_that_are_too_long_become_dead_letters_where_the_policy_says_so() -> None:
    def count(texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    found = decode(records(b"short", b"word " * 200), Decoder())
    reject = space(on_too_long="reject")
    sure = dry_run(found, model(contract=contract(max_item_tokens=100), space=reject, count_tokens=count), None)
    assert sure.refused == [Refused("file:2", "too_long", TOO_LONG)]
    assert (sure.requests, sure.perhaps_too_long) == (1, 0)
    unsure = dry_run(found, model(contract=contract(max_item_tokens=300), space=reject), None)
    assert (unsure.refused, unsure.perhaps_too_long, unsure.requests) == ([], 0, 1)
    doubtful = decode(records(b"short", b"word " * 100), Decoder())
    asked = dry_run(doubtful, model(contract=contract(max_item_tokens=100), space=reject), None)
    assert (asked.refused, asked.perhaps_too_long, asked.requests) == ([], 1, 2)
