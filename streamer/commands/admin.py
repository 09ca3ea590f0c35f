"""`streamer topics`, `config` and `cache`: what is set up."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import anyio
import orjson
from rich.console import Console
from rich.table import Table

from streamer.adapters.kafka.topics import check_topics
from streamer.adapters.redis.statistics import SharedContents
from streamer.adapters.sqlite import CacheContents, read_contents
from streamer.app.caches import open_link, open_named_file
from streamer.app.connection import connection_of
from streamer.app.kafka import topic_specs
from streamer.app.providers import open_provider
from streamer.errors import ConfigurationError, Unreachable
from streamer.settings import SECRETS, Settings
from streamer.settings.reference import example_toml

CACHE_ACTIONS = ("stats", "prune", "clear")


async def topics(settings: Settings, *, create: bool, as_json: bool) -> None:
    """Show the topics, creating missing ones with `create`. Raises Unreachable when some are missing afterwards."""
    states = await check_topics(connection_of(settings), topic_specs(settings), create=create)
    if as_json:
        _json_lines(*map(asdict, states))
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
        _json_lines(values)
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


async def cached(settings: Settings) -> list[CacheContents | SharedContents]:
    """What is in the cache files, and on the server. Raises StreamerError when one of them cannot be read."""
    path = settings.cache.path
    contents: list[CacheContents | SharedContents] = [*await read_contents(path)] if path is not None else []
    if settings.cache.url is not None:
        async with open_link(settings) as link:
            from streamer.adapters.redis.cache import contents_of

            contents.append(await contents_of(link))
    return contents


def contents_line(found: CacheContents | SharedContents) -> str:
    """A cache file, or a server, in one line."""
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
    contents = await cached(settings)
    if as_json:
        _json_lines(*map(asdict, contents))
        return
    for file in contents:
        print(contents_line(file))  # noqa: T201 - the command's output
        for space, entries in file.spaces.items():
            print(f"  {entries:12,} of space {space}")  # noqa: T201


def _json_lines(*documents: Any) -> None:
    for document in documents:
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
