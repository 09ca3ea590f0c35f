"""What `streamer migrate` prints: each document is what the schema says, and the lines tell the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamer.app.embedder import open_embedding
from streamer.app.migrations import settings_of
from streamer.commands.migrate import Estimate, Prepared
from streamer.commands.migrate_status import (
    Look,
    index_of,
    indexer_url,
    kept_lines,
    look_document,
    look_lines,
    migration_document,
    spend_of,
)
from streamer.commands.migrate_view import moved_document, moved_lines, start_document, start_lines
from streamer.core.events import TopicPartition
from streamer.embedding.prices import Price
from streamer.migration.history import Migration
from streamer.migration.readiness import Index, Position, Progress
from streamer.settings import Settings, load_settings
from tests.migration.sides import side
from tests.support.schemas import check_document
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY

RUNNING = Migration(
    old=side("a"), new=side("b", settings={"provider.model": "b"}, unset=("provider.dimensions",)), running=True,
    serving="old", started=1_790_000_000.0, changed=1_790_000_000.0, token="t", number=1,
)  # fmt: skip
POSITIONS = {
    TopicPartition("texts", 0): Position(0, 400, 500),
    TopicPartition("texts", 1): Position(100, None, 600),
    TopicPartition("texts", 2): Position(0, 500, 500),
}


def held(name: str, **changes: Any) -> dict[str, Any]:
    each = side(name)
    known = {"group": each.group, "space": each.space, "provider": each.provider, "model": each.model}
    return {**known, "ready": True, "state": None, "vectors": 900, "lag": 0, "problem": None, **changes}


def said(serving: str = "old", **changes: Any) -> dict[str, Any]:
    agreement = {"overlap": 0.713, "neighbors": 10, "events": 500}
    document = {"serving": serving, "old": held("a"), "new": held("b", **changes), "agreement": agreement}
    return {"role": "indexer", "migration": document, "indexes": ["group-a", "group-b"]}


def seen(indexer: Mapping[str, Any] | str | None, reasons: Sequence[str] = (), **changes: Any) -> Look:
    spend = {"usd": 31.2, "tokens": 240_000_000, "limit_usd": 50.0}
    look = Look(
        migration=RUNNING, reached=Progress(POSITIONS, 200.0), members=2, dead_letters=3, spend=spend,
        url="http://127.0.0.1:8080", indexer=indexer, reasons=reasons,
    )  # fmt: skip
    return replace(look, **changes)


def printed(look: Look) -> str:
    document = look_document(look)
    check_document("migrate-line", document)
    return "\n".join(look_lines(document))


def test_one_look_tells_progress_cost_agreement_and_what_it_waits_for() -> None:
    text = printed(seen(said(), ["the new workers are 600 records behind, more than 100", "and more"]))
    for line in (
        "old       onnx model-a, space space-a, group group-a, vectors in vectors-a, answers",
        "new       onnx model-b, space space-b, group group-b, vectors in vectors-b",
        "progress  900 of 1,500 records (60%), 600 behind; 2 workers, 200/s, 3 s to go",
        "          texts/0 100 behind",
        "          texts/1 500 behind",
        "          3 dead letters in dead-b",
        "spend     31.20 USD of 50.00 USD",
        "indexer   old answers; new: ready, 900 vectors",
        "agreement 71% of the 10 nearest are the same, on 500 events that both indexes hold",
        "waits for the new workers are 600 records behind, more than 100\n          and more",
    ):
        assert line in text
    assert "texts/2" not in text
    assert "switch" not in text


@pytest.mark.parametrize(
    ("look", "line"),
    [
        (seen(said()), "next      streamer migrate switch"),
        (seen(said("new"), migration=replace(RUNNING, serving="new")), "next      streamer migrate finish, or: "),
        (seen(None), "indexer   none runs for this group"),
        (seen("no indexer answers at x"), "indexer   no indexer answers at x"),
        (seen(said(ready=False, state="restoring", vectors=0)), "new: restoring, 0 vectors"),
        (seen(said(ready=False, problem="no key")), "new: no key"),
        (seen({"role": "indexer"}), "progress"),
        (seen(said(), members=0), "no worker runs: start one with streamer run --migration"),
        (seen(said(), members=None), "workers unknown"),
        (seen(said(), spend=None), "indexer"),
        (seen(said(), spend={"usd": None, "tokens": 5, "limit_usd": None}), "spend     5 tokens"),
    ],
)
def test_whatever_is_seen_is_told(look: Look, line: str) -> None:
    assert line in printed(look)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (said(lag=5), Index(ready=True, state=None, lag=7, problem=None)),
        (said(ready=False, problem="no key"), Index(ready=False, state=None, lag=7, problem="no key")),
        (None, None),
        ("nobody answers", "nobody answers"),
    ],
)
def test_the_new_index_is_what_the_indexer_says(told: Any, expected: Any) -> None:
    assert index_of(told, RUNNING, "u", 7) == expected


@pytest.mark.parametrize("told", [{"role": "indexer"}, {"migration": None}, said(space="space-x")])
def test_an_indexer_that_does_not_know_of_it_is_no_ready_one(told: Any) -> None:
    assert "does not hold the index of model-b yet" in str(index_of(told, RUNNING, "u", 7))


@pytest.mark.anyio
async def test_what_the_new_workers_spend_is_counted_by_itself(tmp_path: Path) -> None:
    async with FakeOpenAI(key=KEY) as server:
        before = load_settings(None, {}, {
            "provider.name": "openai", "provider.base_url": server.base_url, "provider.api_key": KEY,
            "provider.dimensions": "16", "cache.path": str(tmp_path / "cache.sqlite"),
        })  # fmt: skip
        new = side("b", settings={"provider.dimensions": "8"},
                   work={"provider.budget": "group-b", "provider.max_spend": "2"})  # fmt: skip
        assert await spend_of(before, new) is None, "no store yet"
        for settings, texts in ((before, ["an old text"]), (settings_of(before, [new], work=True), ["one", "another"])):
            billed = server.billed_tokens
            async with open_embedding(settings) as stack:
                await stack.embedder.embed(texts, "document")
            billed = server.billed_tokens - billed
        assert billed > 0
        assert await spend_of(before, new) == {"usd": billed * 0.02 / 1e6, "tokens": billed, "limit_usd": 2.0}
        unlimited = side("b", settings={"provider.dimensions": "8"}, work={"provider.budget": "group-b"})
        assert (await spend_of(before, unlimited) or {})["tokens"] == billed
    local = load_settings(None, {}, {"provider.name": "onnx"})
    assert await spend_of(local, side("b", settings={"provider.precision": "float32"})) is None


@pytest.mark.parametrize(
    ("price", "tokens", "limit", "line"),
    [
        (Price(0.0), 5, None, "cost      nothing: no one bills onnx"),
        (None, 5_000, None, "cost      about 5,000 tokens, at an unknown price"),
        (Price(0.13), 5_000_000, None, "cost      about 0.65 USD for about 5,000,000 tokens at 0.13 USD a million"),
        (Price(0.13), 5_000_000, "2", "; workers pause at 2.00 USD"),
        (Price(0.13), 5_000_000, "0.5", "; workers pause at 0.5 USD (LESS THAN THAT)"),
    ],
)
def test_a_start_says_what_it_costs(price: Price | None, tokens: int, limit: str | None, line: str) -> None:
    amount = None if price is None else price.usd_per_million_tokens * tokens / 1e6
    work = {} if limit is None else {"provider.max_spend": limit}
    prepared = Prepared(
        settings=Settings(), old=side("a"), new=side("b", work=work), specs=[], price=price,
        estimate=Estimate(records=1_000, deleted=200, tokens=tokens, usd=amount, seconds=300.0),
    )  # fmt: skip
    check_document("migrate-line", start_document(prepared, dry_run=False))
    text = "\n".join(start_lines(prepared, dry_run=False))
    assert line in text
    assert "run       streamer run --migration" in text
    assert "time      5 min for one worker" in text
    assert "          200 EARLIER ONES ARE DELETED (retention): the new model will not have them" in text
    assert "Nothing was changed." in "\n".join(start_lines(prepared, dry_run=True))


def test_the_end_says_what_to_write_down_and_what_may_go() -> None:
    finished = replace(RUNNING, running=False, serving="new")
    check_document("migrate-line", moved_document(finished, "done"))
    text = "\n".join(moved_lines(finished, "done"))
    assert 'model = "b"' in text
    assert "# dimensions: remove it" in text
    assert "topics vectors-a, verdicts-a, dead-a;\n          groups group-a, group-a-verdicts" in text
    given_up = "\n".join(kept_lines(replace(finished, serving="old")))
    assert "settings" not in given_up
    assert "vectors-b" in given_up
    check_document("migrate-line", migration_document(finished))


def test_an_indexer_that_listens_everywhere_is_asked_here() -> None:
    assert indexer_url(load_settings(None, {}, {"http.host": "0.0.0.0", "http.port": "81"})) == "http://127.0.0.1:81"
