"""What `GET /v1/status` answers: the state of one process for `streamer status` and for programs.

Its shape is that of docs/schemas/status.schema.json. Times are UTC, RFC 3339.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from streamer.app.conditions import Conditions
from streamer.app.embedder import EmbeddingStack
from streamer.core.events import TopicPartition
from streamer.embedding.prices import Price
from streamer.errors import without_credentials
from streamer.forecast.outlook import outlook
from streamer.telemetry.dead_letters import DeadLetters
from streamer.telemetry.histogram import Histogram
from streamer.telemetry.waiting import Held
from streamer.version import version


def utc(seconds: float | None) -> str | None:
    """A time in seconds since the epoch, for people and machines."""
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def process_document(role: str, group: str, embedding: EmbeddingStack, conditions: Conditions) -> dict[str, Any]:
    """What every role tells: who it is, what it waits for, and what it does without."""
    space = embedding.embedder.space
    return {
        "role": role,
        "version": version(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": utc(conditions.started),
        "group": group,
        "provider": space.provider,
        "model": space.model,
        "space": space.id,
        "waits": conditions_document(conditions.waits()),
        "degraded": conditions_document(conditions.lacks()),
        "rate": round(conditions.rate.per_second(), 1),
        "cache": cache_document(embedding),
        "spend": spend_document(embedding),
        "price": price_document(embedding.price),
    }


def conditions_document(held: Iterable[Held]) -> list[dict[str, Any]]:
    return [
        {
            "reason": one.reason,
            "text": without_credentials(one.text),
            "since": utc(one.since),
            "until": utc(one.until),
        }
        for one in held
    ]


def cache_document(embedding: EmbeddingStack) -> dict[str, Any] | None:
    """None without a cache."""
    if embedding.caches.together is None:
        return None
    counts = embedding.embedder.statistics()
    known = counts.hits_total + counts.repeats_total + counts.joined_total
    return {
        "texts": counts.texts_total,
        "hits": known,
        "share": round(known / counts.texts_total, 4) if counts.texts_total else None,
        "problem": embedding.caches.state(),
    }


def spend_document(embedding: EmbeddingStack) -> dict[str, Any] | None:
    """None where nothing is paid."""
    if embedding.budget is None:
        return None
    spend = embedding.budget.statistics()
    return {
        "usd": spend.usd_total,
        "day_usd": spend.day_usd,
        "month_usd": spend.month_usd,
        "day_tokens": spend.day_tokens,
        "day_requests": spend.day_requests,
        "limit_reached": spend.limit_reached,
    }


def price_document(price: Price | None) -> dict[str, Any] | None:
    """None where nothing is paid; with nulls where nobody knows what is."""
    if price is None:
        return {"usd_per_million_tokens": None, "as_of": None}
    if price.usd_per_million_tokens == 0:
        return None
    return {"usd_per_million_tokens": price.usd_per_million_tokens, "as_of": price.as_of or None}


def forecast_document(embedding: EmbeddingStack, rate: float, done: int, lag: int | None) -> dict[str, Any] | None:
    """What is spent in a day at the rate of now, and what the backlog costs and takes at that rate; None where nothing
    is paid or nothing is done. `rate`: records a second; `done`: records since the start."""
    if embedding.budget is None or not rate or not done:
        return None
    tokens = embedding.dispatcher.statistics().tokens_total / done
    seen = outlook(rate=rate, tokens=tokens, price=embedding.budget.price, backlog=lag or 0)
    return {
        "usd_per_day": seen.usd_per_day,
        "tokens_per_day": seen.tokens_per_day,
        "backlog_usd": seen.backlog_usd,
        "backlog_seconds": round(seen.backlog_events / rate, 1),
    }


def partitions_document(
    lag: Mapping[TopicPartition, int],
    commit_age: Mapping[TopicPartition, float],
    oldest_age: Mapping[TopicPartition, float] | None = None,
) -> list[dict[str, Any]]:
    """In order of topic and partition. A lag that no broker has told of yet is null."""
    ages = oldest_age or {}
    return [
        {
            "topic": tp.topic,
            "partition": tp.partition,
            "lag": lag.get(tp),
            "commit_age_seconds": round(commit_age[tp], 1),
            "oldest_unfinished_seconds": round(ages.get(tp, 0.0), 1),
        }
        for tp in sorted(commit_age)
    ]


def total_lag(lag: Mapping[TopicPartition, int]) -> int | None:
    """Of all partitions; None while it is not known."""
    return sum(lag.values()) if lag else None


def dead_letters_document(kinds: Iterable[DeadLetters]) -> list[dict[str, Any]]:
    return [
        {"kind": letters.kind, "count": letters.count, "reason": without_credentials(letters.reason)}
        for letters in kinds
    ]


def seconds_document(histogram: Histogram) -> dict[str, float | None]:
    """Upper bounds of two quantiles since the start; null without values or beyond the last bound."""
    found = {name: histogram.quantile(q) for name, q in (("p50", 0.5), ("p95", 0.95))}
    return {name: value if value is not None and isfinite(value) else None for name, value in found.items()}
