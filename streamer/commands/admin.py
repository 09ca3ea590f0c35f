"""`streamer topics`, `config`, `check` and `cache`: what is set up, and whether it works."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import orjson
from anyio.to_thread import run_sync
from rich.console import Console
from rich.table import Table

from streamer.adapters.kafka.topics import check_topics
from streamer.adapters.redis.statistics import SharedContents
from streamer.adapters.snapshot_file import SnapshotFile
from streamer.adapters.sqlite import CacheContents, read_contents
from streamer.app.caches import open_link, open_named_file
from streamer.app.kafka import connection_of, topic_specs
from streamer.app.probe import probe
from streamer.app.providers import open_provider, ways_of
from streamer.errors import ConfigurationError, StreamerError, Unreachable
from streamer.indexer.snapshots.format import UnusableSnapshot
from streamer.indexer.snapshots.store import reading
from streamer.settings import SECRETS, Settings
from streamer.settings.reference import example_toml

CACHE_ACTIONS = ("stats", "prune", "clear")


async def topics(settings: Settings, *, create: bool, as_json: bool) -> None:
    """Show the topics, creating missing ones with `create`. Raises Unreachable when some are missing afterwards."""
    states = await check_topics(connection_of(settings), topic_specs(settings), create=create)
    if as_json:
        _json([asdict(state) for state in states])
    else:
        table = Table("topic", "partitions", "", box=None, pad_edge=False)
        for state in states:
            word = "created" if state.created else "exists" if state.partitions else "MISSING"
            table.add_row(state.name, str(state.partitions or "-"), word)
        Console().print(table)
    missing = [state.name for state in states if not state.partitions]
    if missing:
        raise Unreachable(f"missing topics: {', '.join(missing)}; create them with: streamer topics --create")


def show_example() -> None:
    """A `streamer.toml` with every key explained."""
    print(example_toml(), end="")  # noqa: T201 - the command's output


def show_settings(settings: Settings, *, as_json: bool) -> None:
    """The effective settings as TOML (or JSON); secrets are stars, unset values are comments."""
    values = settings.redacted()
    if as_json:
        _json(values)
        return
    lines = []
    for section, table in values.items():
        lines.append(f"[{section}]")
        for key, value in table.items():
            # JSON's strings, numbers, booleans and arrays are TOML's as well; a table of ours is empty by default.
            given = value is not None and value != {}
            line = f"{key} = {orjson.dumps(value).decode()}" if given else f"{key} ="
            lines.append(line if given and (section, key) not in SECRETS else f"# {line}")
        lines.append("")
    print("\n".join(lines).rstrip())  # noqa: T201 - the command's output


async def check(settings: Settings) -> None:
    """Try each part once, print what works, and raise the first failure's class so that the exit code tells."""
    console = Console(highlight=False, soft_wrap=True)
    failures: list[StreamerError] = []

    async def attempt(name: str, action: Callable[[], Awaitable[str]]) -> None:
        try:
            console.print(f"ok      {name}: {await action()}", markup=False)
        except StreamerError as exc:
            failures.append(exc)
            console.print(f"FAILED  {name}: {exc}", markup=False)

    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [("topics", partial(_check_topics, settings))]
    # One by one: together, a way that works would hide that another does not.
    checks += [(f"provider {name}".rstrip(), partial(_check_provider, way)) for name, way in ways_of(settings)]
    if settings.provider.fallback:
        checks.append(("fallback", partial(_check_fallback, settings)))
    checks.append(("cache", partial(_check_cache, settings)))
    checks.append(("snapshot", partial(_check_snapshot, settings)))
    for name, action in checks:
        await attempt(name, action)
    if failures:
        wrong = all(isinstance(failure, ConfigurationError) for failure in failures)
        raise (ConfigurationError if wrong else Unreachable)(f"{len(failures)} of {len(checks)} checks failed")


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
    contents = await _cached(settings)
    is_new = settings.cache.path is not None and not any(isinstance(found, CacheContents) for found in contents)
    later = [f"{settings.cache.path} will be created"] if is_new else []
    return "; ".join([*later, *map(_contents, contents)])


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


async def _cached(settings: Settings) -> list[CacheContents | SharedContents]:
    """What is in the cache files, and on the server. Raises StreamerError when one of them cannot be read."""
    path = settings.cache.path
    contents: list[CacheContents | SharedContents] = [*await read_contents(path)] if path is not None else []
    if settings.cache.url is not None:
        async with open_link(settings) as link:
            from streamer.adapters.redis.cache import contents_of

            contents.append(await contents_of(link))
    return contents


def _contents(found: CacheContents | SharedContents) -> str:
    return f"{found.path}: {found.entries:,} vectors, {found.bytes:,} bytes"


async def cache(settings: Settings, action: str, *, as_json: bool) -> None:
    """`stats` of the cache files and of the server, `prune` or `clear` of those that the settings name; workers may be
    using them. What has expired on a server is gone by itself."""
    path = settings.cache.path
    if action != "stats" and path is not None:
        if not await anyio.Path(path).exists():
            raise ConfigurationError(f"cache.path = {path}: there is no such file")
        async with open_provider(settings) as opened, open_named_file(settings, opened.provider.space) as named:
            await (named.prune() if action == "prune" else named.clear())
    if action == "clear" and settings.cache.url is not None:
        async with open_link(settings) as link:
            from streamer.adapters.redis.cache import clear

            await clear(link)
    contents = await _cached(settings)
    if as_json:
        _json([asdict(file) for file in contents])
        return
    for file in contents:
        print(_contents(file))  # noqa: T201 - the command's output
        for space, entries in file.spaces.items():
            print(f"  {entries:12,} of space {space}")  # noqa: T201


def _json(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
