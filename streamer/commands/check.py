"""`streamer check`: each part tried once, and a look at what runs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import orjson
from anyio.to_thread import run_sync
from rich.console import Console

from streamer.adapters.kafka.groups import Watcher, watching
from streamer.adapters.kafka.topics import check_topics
from streamer.adapters.snapshot_file import SnapshotFile
from streamer.adapters.sqlite import CacheContents
from streamer.app.connection import connection_of
from streamer.app.index_store import look_at_store
from streamer.app.kafka import topic_specs
from streamer.app.probe import probe
from streamer.app.providers import open_provider, ways_of
from streamer.commands.admin import cached, contents_line
from streamer.commands.terminal import print_folded
from streamer.errors import ConfigurationError, StreamerError, Unreachable, without_quotes
from streamer.indexer.snapshots.format import UnusableSnapshot
from streamer.indexer.snapshots.store import reading
from streamer.settings import Settings

HOUR: Final = 3600
SAMPLE: Final = 500  # dead letters that are read for their kinds and reasons
LONGEST_REASON: Final = 200


class Warned(str):
    """Said of a part that works, but that a person should look at."""

    __slots__ = ()


Check = Callable[[], Awaitable[str]]


async def check(settings: Settings, *, as_json: bool) -> None:
    """Try each part once, print what works, and raise the first failure's class so that the exit code tells."""
    console = Console(highlight=False)
    failures: list[StreamerError] = []

    async def attempt(name: str, action: Check) -> bool:
        try:
            said = await action()
            result = "warning" if isinstance(said, Warned) else "ok"
        except StreamerError as exc:
            failures.append(exc)
            said, result = str(exc), "failed"
        if as_json:
            sys.stdout.buffer.write(orjson.dumps({"check": name, "result": result, "text": str(said)}) + b"\n")
        else:
            word = "FAILED" if result == "failed" else result
            print_folded(console, f"{word:<7} {name}: {said}", len("warning "))
        return result != "failed"

    checks: list[tuple[str, Check]] = []
    # One by one: together, a way that works would hide that another does not.
    checks += [(f"provider {name}".rstrip(), partial(_check_provider, way)) for name, way in ways_of(settings)]
    if settings.provider.fallback:
        checks.append(("fallback", partial(_check_fallback, settings)))
    checks.append(("cache", partial(_check_cache, settings)))
    checks.append(("snapshot", partial(_check_snapshot, settings)))
    if settings.index.backend != "memory":
        checks.append(("index", partial(look_at_store, settings)))
    brokers_answer = await attempt("topics", partial(_check_topics, settings))
    for name, action in checks:
        await attempt(name, action)
    tried = 1 + len(checks)
    if brokers_answer:
        tried += await _look_at_groups(settings, attempt)
    if failures:
        wrong = all(isinstance(failure, ConfigurationError) for failure in failures)
        raise (ConfigurationError if wrong else Unreachable)(f"{len(failures)} of {tried} checks failed")


async def _look_at_groups(settings: Settings, attempt: Callable[[str, Check], Awaitable[bool]]) -> int:
    """How many checks there were."""
    group = settings.kafka.group_id
    async with watching(connection_of(settings)) as watcher:
        looks: list[tuple[str, Check]] = [
            ("workers", partial(_check_group, watcher, group, "worker", "streamer run")),
            ("indexer", partial(_check_group, watcher, f"{group}-verdicts", "indexer", "streamer index")),
            ("dead letters", partial(_check_dead_letters, watcher, settings.topics.dead_letters)),
        ]
        for name, action in looks:
            await attempt(name, action)
    return len(looks)


async def _check_group(watcher: Watcher, id: str, role: str, command: str) -> str:
    group = await watcher.group(id)
    lag = sum(group.lag.values())
    behind = [f"{tp} {records:,}" for tp, records in sorted(group.lag.items()) if records]
    where = f" ({', '.join(behind[:8])}{', ...' if len(behind) > 8 else ''})" if behind else ""
    if group.members is None:
        return f"group {id}: lag {lag:,}{where}; this broker does not tell its members"
    if not group.members and not group.lag:
        return f"group {id} has no members yet"
    if not group.members:
        wait = f", and {lag:,} records wait{where}" if lag else ""
        return Warned(f"group {id} has no members{wait}: no {role} runs; start one with: {command}")
    count = f"{len(group.members)} member{'s' if len(group.members) > 1 else ''}"
    return f"group {id}: {group.state}, {count}, lag {lag:,}{where}"


async def _check_dead_letters(watcher: Watcher, topic: str) -> str:
    counts = await watcher.since(topic, int((time.time() - HOUR) * 1000))
    total = sum(counts.values())
    if not total:
        return f"none on {topic} in the last hour"
    kinds: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    for record in await watcher.latest(counts, SAMPLE):
        headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
        kind = headers.get("streamer-error-kind", "unknown")
        kinds[kind] += 1
        reasons[kind, without_quotes(headers.get("streamer-error", ""))[:LONGEST_REASON]] += 1
    told = []
    for kind, count in kinds.most_common(3):
        reason = next(why for (of, why), _ in reasons.most_common() if of == kind)
        told.append(f"{kind} {count / kinds.total():.0%}: {reason}")
    return Warned(f"{total:,} on {topic} in the last hour; {'; '.join(told)}")


async def _check_topics(settings: Settings) -> str:
    states = await check_topics(connection_of(settings), topic_specs(settings), create=False)
    missing = [state.name for state in states if not state.partitions]
    inputs = [name for name in missing if name in settings.topics.inputs]
    if inputs or (missing and not settings.kafka.create_topics):
        raise Unreachable(f"missing: {', '.join(inputs or missing)}; create them with: streamer topics --create")
    found = [f"{state.name} ({state.partitions})" for state in states if state.partitions]
    later = f"; will be created at start: {', '.join(missing)}" if missing else ""
    return f"{settings.kafka.bootstrap_servers} has {', '.join(found) or 'none of them'}{later}"


async def _check_provider(settings: Settings) -> str:
    probed = await probe(settings)
    space = probed.space
    note = f"; {probed.note}" if probed.note else ""
    return f"{space.provider} {space.model}, {space.dimensions} dimensions, space {space.id}{note}"


async def _check_fallback(settings: Settings) -> str:
    async with open_provider(settings) as opened:
        return f"{len(settings.provider.fallback)} more to the space {opened.provider.space.id}"


async def _check_cache(settings: Settings) -> str:
    if not settings.cache.enabled:
        return "off"
    contents = await cached(settings)
    is_new = settings.cache.path is not None and not any(isinstance(found, CacheContents) for found in contents)
    later = [f"{settings.cache.path} will be created"] if is_new else []
    return "; ".join([*later, *map(contents_line, contents)])


async def _check_snapshot(settings: Settings) -> str:
    """Never fails, because a snapshot is optional. Reads only the header; damage further on shows when it is loaded."""
    path = settings.index.snapshot_path
    if path is None:
        return "off"
    try:
        return f"{path}: {await run_sync(_snapshot, path)}"
    except FileNotFoundError:
        return f"{path} will be created"
    except (UnusableSnapshot, OSError) as exc:
        return f"{path} will be ignored, the index is read from the topic instead: {exc}"


def _snapshot(path: Path) -> str:
    with reading(SnapshotFile(path)) as (reader, size):
        header = reader.header
    hours = max(0.0, time.time() - header.read_at) / 3600
    return f"{header.vectors:,} vectors of space {header.facts['space']}, {size:,} bytes, {hours:.1f} hours old"
