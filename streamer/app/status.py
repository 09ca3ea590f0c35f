"""What `GET /v1/status` answers: the state of one process for `streamer status` and for programs.

Its shape is that of docs/schemas/status.schema.json. Times are UTC, RFC 3339.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from streamer.app.conditions import Conditions
from streamer.app.embedder import EmbeddingStack
from streamer.core.events import TopicPartition
from streamer.embedding.prices import Price
from streamer.errors import without_credentials
from streamer.forecast.outlook import DAY_SECONDS, outlook
from streamer.http.role_state import RoleState, utc
from streamer.telemetry.commit_health import CommitFailure
from streamer.telemetry.dead_letters import DeadLetters
from streamer.telemetry.histogram import Histogram
from streamer.version import version


def process_document(
    role: str, group: str, embedding: EmbeddingStack, conditions: Conditions, state: RoleState
) -> dict[str, Any]:
    """What every role tells: who it is, what it waits for, and what it does without."""
    space = embedding.embedder.space
    return {
        "role": role,
        "version": version(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "at": utc(conditions.now()),
        "started": utc(conditions.started),
        "group": group,
        "provider": space.provider,
        "model": space.model,
        "space": space.id,
        "ready": state.is_ready,
        "state": state.reason,
        **state.conditions(),
        "rate": round(conditions.rate.per_second(), 1),
        "cache": cache_document(embedding),
        "spend": spend_document(embedding),
        "price": price_document(embedding.price),
    }


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
    """What a day takes at the rate of now, and what the backlog takes at that rate; None while nothing is done. Without
    money where no price is known, or where none is paid. `rate`: records a second; `done`: records since the start."""
    if not rate or not done:
        return None
    provider, price = embedding.dispatcher.statistics(), embedding.price
    paid = None if price is None or price.usd_per_million_tokens == 0 else price
    seen = outlook(rate=rate, tokens=provider.tokens_total / done, price=paid, backlog=lag or 0)
    return {
        "usd_per_day": seen.usd_per_day,
        "tokens_per_day": seen.tokens_per_day,
        "requests_per_day": round(provider.requests_total / done * rate * DAY_SECONDS),
        "backlog_usd": seen.backlog_usd,
        "backlog_tokens": seen.backlog_tokens,
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


def commit_failure_document(failure: CommitFailure | None) -> dict[str, Any] | None:
    """Why the last commit failed, None where it did not."""
    return None if failure is None else {"reason": without_credentials(failure.reason), "since": utc(failure.since)}


def dead_letters_document(kinds: Iterable[DeadLetters]) -> list[dict[str, Any]]:
    return [
        {"kind": letters.kind, "count": letters.count, "reason": without_credentials(letters.reason)}
        for letters in kinds
    ]


def seconds_document(histogram: Histogram) -> dict[str, float | None]:
    """Upper bounds of two quantiles since the start; null without values or beyond the last bound."""
    found = {name: histogram.quantile(q) for name, q in (("p50", 0.5), ("p95", 0.95))}
    return {name: value if value is not None and isfinite(value) else None for name, value in found.items()}
