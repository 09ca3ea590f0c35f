"""`streamer plan`: what a stream of a given rate takes, before it is there."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from math import inf
from typing import Any

import orjson
from rich.console import Console

from streamer.app.forecast import MEASURED, REMOTE_ANSWER_SECONDS, delays_for, machine_for, model_for
from streamer.app.providers import contract_of, remote_space
from streamer.app.spending import price_for
from streamer.commands.terminal import print_folded
from streamer.commands.try_out import outlook_document
from streamer.core.vectors import Space
from streamer.embedding.contracts import Contract, contract_for, is_known
from streamer.embedding.prices import Price
from streamer.errors import ConfigurationError
from streamer.forecast.outlook import duration
from streamer.forecast.sizing import HEADROOM, INDEXER, Demand, Sizing, size
from streamer.settings import Settings

_RATE = re.compile(r"([\d.,]+)\s*([kKmM]?)\s*(?:/\s*(s|sec|second|min|minute|h|hour|d|day))?")
_SECONDS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
_THOUSANDS = {"": 1, "k": 1_000, "m": 1_000_000}


def rate_of(text: str) -> float:
    """Events a second: `5000`, `5000/s`, `10k/s`, `300/min`, `2M/day`. Raises ConfigurationError."""
    found = _RATE.fullmatch(text.strip())
    try:
        number = float(found[1].replace(",", "")) if found else 0.0
    except ValueError:
        number = 0.0
    if found is None or not number > 0:
        raise ConfigurationError(f"--rate {text}: it must be a number of events, as in 5000/s, 300/min or 2M/day")
    return number * _THOUSANDS[found[2].lower()] / _SECONDS[found[3] or "s"]


async def plan(settings: Settings, demand: Demand, *, answer_seconds: float | None, as_json: bool) -> None:
    """Print what it takes. Opens nothing."""
    contract = contract_of(settings)
    space = _space(settings, contract)
    price = price_for(settings, contract)
    delays = delays_for(settings, contract, space.dimensions, answer_seconds)
    model = model_for(settings, contract, space, delays)
    sizing = size(demand, model, machine_for(settings, contract, space.dimensions), price)
    if as_json:
        document = as_document(settings, demand, contract, price, delays.answer, sizing)
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
        sys.stdout.buffer.flush()
    else:
        _print(demand, contract, space, price, delays.answer, sizing, assumed=answer_seconds is None)


def _space(settings: Settings, contract: Contract) -> Space:
    """Near enough for a plan: what a model in this process says of itself is not asked for."""
    if contract.is_local and not is_known(contract.provider, contract.model):
        raise ConfigurationError(
            f"the model {contract.model!r} is known only once it is loaded; plan with a model of the table, such as "
            f"{contract_for(contract.provider, 'all-MiniLM-L6-v2').model}"
        )
    return remote_space(settings, contract)


def as_document(
    settings: Settings, demand: Demand, contract: Contract, price: Price | None, answer: float, sizing: Sizing
) -> dict[str, Any]:
    """The plan as JSON: rates in events a second, sizes in bytes, times in seconds. null: unlimited or unknown."""
    needs = {
        name: {"needed": need.needed, "available": None if need.available == inf else need.available}
        for name, need in sizing.needs.items()
    }
    return {
        "demand": asdict(demand),
        "provider": contract.provider,
        "model": contract.model,
        "workers": sizing.workers,
        "partitions": sizing.partitions,
        "worker_rate": sizing.worker_rate,
        "worker_bytes": sizing.worker_bytes,
        "batch_events": sizing.batch_events,
        "request_texts": sizing.request_texts,
        "request_tokens": sizing.request_tokens,
        "latency_seconds": None if sizing.latency is None else dict(zip(("p50", "p95"), sizing.latency, strict=True)),
        "input_bytes_per_second": sizing.input_bytes,
        "output_bytes_per_second": sizing.output_bytes,
        "needs": needs,
        "bottleneck": sizing.bottleneck,
        "keeps_up": sizing.keeps_up,
        "outlook": outlook_document(sizing.outlook),
        "usd_per_million_tokens": None if price is None else price.usd_per_million_tokens,
        "price_as_of": price.as_of or None if price else None,
        "assumed": {"answer_seconds": answer, "costs_measured": MEASURED, "indexed_vectors": settings.index.capacity},
    }


def _print(
    demand: Demand,
    contract: Contract,
    space: Space,
    price: Price | None,
    answer: float,
    sizing: Sizing,
    *,
    assumed: bool,
) -> None:
    console = Console(highlight=False)

    def say(name: str, line: str) -> None:
        print_folded(console, f"{name:<11} {line}", len("bottleneck  "))

    say("stream", f"{_number(demand.rate)} events/s of {demand.tokens} tokens, {demand.repeats:.0%} repeats")
    say("model", f"{contract.provider} {contract.model}, {space.dimensions} dimensions")
    say(
        "workers",
        f"{sizing.workers:,}, each good for {sizing.worker_rate:,.0f} events/s; {HEADROOM:.0%} of that is used",
    )
    say("partitions", f"{sizing.partitions:,} of each topic")
    say("memory", f"{sizing.worker_bytes / 1e6:,.0f} MB a worker with full windows")
    say("network", f"{sizing.input_bytes / 1e6:,.1f} MB/s in, {sizing.output_bytes / 1e6:,.1f} MB/s of vectors out")
    say("batches", f"{sizing.batch_events:,.0f} events; requests of {sizing.request_texts:,.0f} texts, "
                   f"{sizing.request_tokens:,.0f} tokens")  # fmt: skip
    for name, need in sizing.needs.items():
        if need.available == inf:
            say("needs", f"{need.needed:,.0f} {name}; no limit is set or known")
        else:
            share = f"{need.share:.0%}" if need.share < 10 else f"{need.share:,.0f} times as many"
            say("needs", f"{need.needed:,.0f} of {need.available:,.0f} {name}: {share}")
    if sizing.latency is not None:
        say("latency", "{:.2f} s at the median, {:.2f} s at the 95th percentile".format(*sizing.latency))
    if not price or price.usd_per_million_tokens:
        say("cost", str(sizing.outlook))
        if price is None:
            say("", "in US dollars unknown: set provider.price_per_million_tokens")
        else:
            month = 30 * (sizing.outlook.usd_per_day or 0.0)
            whose = f"list price of {price.as_of}" if price.as_of else "your price"
            say("", f"{month:,.0f} USD in 30 days, at {price.usd_per_million_tokens:g} USD a million tokens ({whose})")
    elif sizing.outlook.backlog_seconds:
        say("backlog", duration(sizing.outlook.backlog_seconds) if sizing.keeps_up else "grows")
    late = [] if sizing.keeps_up else ["vectors"]
    late += ["verdicts"] if sizing.needs[INDEXER].share > 1 else []
    say("bottleneck", sizing.bottleneck + (f"; {' and '.join(late)} fall behind" if late else ""))
    said = (
        f"; an answer takes {answer:g} s (assumed: --latency-ms)" if assumed and answer == REMOTE_ANSWER_SECONDS else ""
    )
    say("assumed", f"processor times measured on {MEASURED}{said}; a full index of the configured capacity")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
