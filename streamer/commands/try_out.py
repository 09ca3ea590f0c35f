"""`streamer try`: what a worker would do with a file or with the last records of a topic, and what that would cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from streamer.app.dry_run import Dry, decoded_by, recent_records, try_out
from streamer.commands.file_format import FileFormat
from streamer.commands.publish import message_of
from streamer.commands.rows import BadRow
from streamer.commands.terminal import print_folded
from streamer.commands.text_files import open_text_file
from streamer.core.events import Record, TopicPartition
from streamer.embedding.prices import usd, usd_text
from streamer.errors import ConfigurationError
from streamer.forecast.outlook import Outlook, duration, outlook
from streamer.settings import Settings

SHOWN_KINDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What to try. `path`: a file, as for `streamer publish`; else the last `count` records of `topic`."""

    path: Path | None
    format: FileFormat
    text_field: str | None = None
    key_field: str | None = None
    topic: str | None = None
    count: int = 1000
    answer_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that could not be published."""

    place: str
    reason: str


async def try_records(settings: Settings, trial: Trial, *, as_json: bool) -> None:
    """Print the dead letters and the summary. Calls no provider, commits nothing, publishes nothing."""
    bad: list[BadLine] = []
    stream: Outlook | None = None
    if trial.path is not None:
        if trial.topic is not None:
            raise ConfigurationError("a file and --topic: one of them")
        dry = await try_out(settings, decoded_by(settings, _of_file(settings, trial, bad)), trial.answer_seconds)
    else:
        topic = trial.topic or _only_input(settings)
        recent = await recent_records(settings, topic, trial.count)
        records = ((f"{record.tp}/{record.offset}", record) for record in recent.records)
        dry = await try_out(settings, decoded_by(settings, records), trial.answer_seconds)
        if dry.run.texts and (rate := recent.rate()) is not None:
            done = dry.run.texts / dry.run.seconds if dry.run.seconds else None
            tokens = dry.run.tokens / dry.run.records
            stream = outlook(rate=rate, tokens=tokens, price=dry.price, backlog=recent.waiting or 0, capacity=done)
    if as_json:
        _print_json(dry, bad, stream)
    else:
        _print(settings, dry, bad, stream, trial.answer_seconds)


def _of_file(settings: Settings, trial: Trial, bad: list[BadLine]) -> Iterator[tuple[str, Record]]:
    """The records that `streamer publish` would make of the file."""
    path = None if str(trial.path) == "-" else trial.path
    with open_text_file(path, trial.format) as file:
        for offset, row in enumerate(file.rows()):
            place = f"{file.name}:{row.number}"
            if isinstance(row, BadRow):
                bad.append(BadLine(place, row.reason))
                continue
            try:
                message = message_of(row, settings, "texts", text_field=trial.text_field, key_field=trial.key_field)
            except (ValueError, TypeError, UnicodeEncodeError) as exc:
                bad.append(BadLine(place, str(exc)))
            else:
                tp = TopicPartition(message.topic, 0)
                yield place, Record(tp, offset, message.key, message.value, 0, message.headers)


def _only_input(settings: Settings) -> str:
    if len(settings.topics.inputs) != 1:
        raise ConfigurationError("topics.input is not one topic; say which with --topic")
    return settings.topics.inputs[0]


def summary(dry: Dry, bad: list[BadLine], stream: Outlook | None) -> dict[str, Any]:
    """The last JSON line."""
    run = dry.run
    return {
        "type": "summary",
        "records": run.records,
        "unpublishable": len(bad),
        "tombstones": run.tombstones,
        "dead_letters": dict(run.kinds),
        "texts": run.texts,
        "distinct_texts": run.distinct,
        "cached_texts": run.cached,
        "perhaps_too_long": run.perhaps_too_long,
        "batches": run.batches,
        "requests": run.requests,
        "tokens": run.tokens,
        "tokens_are_exact": dry.is_exact,
        "cost_usd": None if run.cost is None else usd(run.cost),
        "usd_per_million_tokens": None if dry.price is None else dry.price.usd_per_million_tokens,
        "price_as_of": dry.price.as_of or None if dry.price else None,
        "seconds": round(run.seconds, 3),
        "outlook": None if stream is None else outlook_document(stream),
    }


def outlook_document(stream: Outlook) -> dict[str, Any]:
    """As JSON has it, which knows no infinity: a backlog that grows takes no number of seconds."""
    seconds = stream.backlog_seconds
    is_finite = seconds is not None and seconds != float("inf")
    return asdict(stream) | {"backlog_seconds": seconds if is_finite else None}


def _print_json(dry: Dry, bad: list[BadLine], stream: Outlook | None) -> None:
    lines: list[dict[str, Any]] = [{"type": "unpublishable", **asdict(line)} for line in bad]
    lines += [{"type": "dead_letter", **asdict(letter)} for letter in dry.run.refused]
    for line in [*lines, summary(dry, bad, stream)]:
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def _print(
    settings: Settings, dry: Dry, bad: list[BadLine], stream: Outlook | None, answer_seconds: float | None
) -> None:
    console = Console(highlight=False)

    def say(line: str) -> None:
        print_folded(console, line, len("records   "))

    run = dry.run
    kinds = ((run.texts, "text"), (len(run.refused), "dead letter"), (run.tombstones, "tombstone"))
    say(f"records   {run.records:,}: {', '.join(_counted(number, what) for number, what in kinds)}")
    if bad:
        say(f"          {len(bad):,} lines cannot be published; the first is {bad[0].place}: {bad[0].reason}")
    for kind, count in list(run.kinds.items())[:SHOWN_KINDS]:
        first = next(letter for letter in run.refused if letter.kind == kind)
        say(f"          {kind} {count:,}; the first is {first.place}: {first.reason}")
    if run.perhaps_too_long:
        say(f"          {run.perhaps_too_long:,} more may be too long; only the provider knows")
    say(f"texts     {run.distinct:,} distinct, {run.cached:,} of them in the cache")
    about = "" if dry.is_exact else "about "
    batches, requests = _counted(run.batches, "micro-batch"), _counted(run.requests, "request")
    say(f"calls     {batches}, {requests}, {about}{_counted(run.tokens, 'token')}")
    say(f"cost      {_cost(dry)}")
    assumed = ""
    if settings.provider.name not in ("onnx", "sentence-transformers"):
        said = "" if answer_seconds is not None else ", as assumed: --latency-ms"
        assumed = f", if a request takes {0.3 if answer_seconds is None else answer_seconds:g} s{said}"
    say(f"time      {duration(run.seconds)} for one worker{assumed}")
    if stream is not None and str(stream):
        say(f"stream    {stream}")
    say("Nothing was embedded, published or committed.")


def _counted(number: int, what: str) -> str:
    plural = "es" if what.endswith("ch") else "s"
    return f"{number:,} {what}" + ("" if number == 1 else plural)


def _cost(dry: Dry) -> str:
    price, cost = dry.price, dry.run.cost
    if price is None or cost is None:
        return "unknown: set provider.price_per_million_tokens"
    if price.usd_per_million_tokens == 0:
        return "nothing: no one bills this model"
    whose = f"list price of {price.as_of}" if price.as_of else "your price"
    about = "" if dry.is_exact else "about "
    return f"{about}{usd_text(usd(cost))} at {price.usd_per_million_tokens:g} USD a million tokens ({whose})"
