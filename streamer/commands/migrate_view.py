"""What the commands of `streamer migrate` print: one JSON line, or some lines for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from streamer.commands.migrate import Prepared
from streamer.commands.migrate_status import (
    decided_lines,
    found,
    kept_lines,
    look,
    look_document,
    look_lines,
    migration_document,
    side_document,
)
from streamer.embedding.prices import usd_text
from streamer.forecast.outlook import duration
from streamer.migration.history import Migration
from streamer.settings import Settings

Document = dict[str, Any]

WORKER = "streamer run --migration"


def start_document(prepared: Prepared, *, dry_run: bool) -> Document:
    return {
        "group": prepared.old.group,
        "running": not dry_run,
        "serving": "old",
        "old": side_document(prepared.old),
        "new": side_document(prepared.new),
        "settings": dict(prepared.new.settings),
        "unset": list(prepared.new.unset),
        "estimate": asdict(prepared.estimate),
        "commands": [WORKER, "streamer migrate status", "streamer migrate switch", "streamer migrate finish"],
    }


def start_lines(prepared: Prepared, *, dry_run: bool) -> Iterator[str]:
    yield from decided_lines(start_document(prepared, dry_run=dry_run))
    estimate = prepared.estimate
    yield f"input     {estimate.records:,} records"
    if estimate.deleted:
        yield f"          {estimate.deleted:,} EARLIER ONES ARE DELETED (retention): the new model will not have them"
    yield f"cost      {_cost(prepared)}"
    if estimate.seconds:
        yield f"time      {duration(estimate.seconds)} for one worker"
    if dry_run:
        yield "Nothing was changed."
        return
    yield f"run       {WORKER}"
    yield f"          (beside another worker of this machine: {WORKER} --set http.worker_port=0)"
    yield "          a running streamer index makes the second index by itself"
    yield "then      streamer migrate status, switch, back, finish"


def _cost(prepared: Prepared) -> str:
    price, estimate = prepared.price, prepared.estimate
    if price is not None and price.usd_per_million_tokens == 0:
        return f"nothing: no one bills {prepared.new.provider}"
    tokens = "an unknown number of" if estimate.tokens is None else f"about {estimate.tokens:,}"
    if price is None or estimate.usd is None:
        return f"{tokens} tokens, at an unknown price: add --to provider.price_per_million_tokens=..."
    limit = prepared.new.work.get("provider.max_spend")
    bound = "" if limit is None else f"; workers pause at {usd_text(float(limit))}"
    over = " (LESS THAN THAT)" if limit is not None and float(limit) < estimate.usd else ""
    return (
        f"about {usd_text(estimate.usd)} for {tokens} tokens at {price.usd_per_million_tokens:g} USD a million"
        f"{bound}{over}"
    )


async def status_of(settings: Settings, *, url: str | None, most_lag: int) -> tuple[Document, Iterable[str]]:
    settings, migration = await found(settings)
    if not migration.running:
        return migration_document(migration), [*decided_lines(migration_document(migration)), *kept_lines(migration)]
    document = look_document(await look(settings, migration, url=url, most_lag=most_lag))
    return document, look_lines(document)


def moved_document(migration: Migration, said: str) -> Document:
    return {**migration_document(migration), "said": said}


def moved_lines(migration: Migration, said: str) -> Iterator[str]:
    yield from decided_lines(migration_document(migration))
    yield f"indexer   {said}"
    if not migration.running:
        yield from kept_lines(migration)
