"""`streamer bench`: each point in a process of its own, one after the other."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final

import orjson
from rich.console import Console

from streamer.adapters.broker import EmbeddedBroker
from streamer.bench.child import ask
from streamer.bench.points import NAMES, ON_A_BROKER, Wanted, points
from streamer.commands.bench_view import table
from streamer.errors import ConfigurationError

# Of the source tree: they need what is not installed with streamer.
OF_THE_TREE: Final = ("provider", "peers", "detection", "workers")
WIDE: Final = 160  # columns, where there is no terminal
FORMATS: Final = ("json", "binary")
_NUMBER = re.compile(r"(\d+)([kM]?)")
_TIMES = {"": 1, "k": 1_000, "M": 1_000_000}
# The embedded broker has no idempotence, makes a first member wait for half of its session timeout, and looks for new
# records only now and then while it holds a fetch.
_EMBEDDED: Final = {
    "kafka.idempotent": "false",
    "kafka.session_timeout_ms": "6000",
    "kafka.fetch_max_wait_ms": "20",
    "kafka.replication_factor": "1",
    "kafka.security_protocol": "PLAINTEXT",
}
# Beyond some thousand records the ends of partitions that it tells lie before their last records.
_NEEDS_A_BROKER: Final = (
    "the bench restore needs Apache Kafka (-b HOST:PORT): the embedded broker forgets where topics end"
)


def chosen(names: Sequence[str]) -> list[str]:
    """The benches of these names, `all` among them. Raises ConfigurationError."""
    for name in names:
        if name in OF_THE_TREE:
            raise ConfigurationError(f"{name} is a bench of the source tree; run there: make bench NAME={name}")
        if name not in (*NAMES, "all"):
            raise ConfigurationError(f"there is no bench {name!r}; there are {', '.join(NAMES)}, and all")
    return list(NAMES) if "all" in names else list(dict.fromkeys(names))


def numbers_of(option: str, text: str | None) -> list[int]:
    """`10k,1M` as numbers; none for None. Raises ConfigurationError."""
    found = [_NUMBER.fullmatch(part.strip()) for part in text.split(",")] if text else []
    numbers = [int(match[1]) * _TIMES[match[2]] for match in found if match is not None]
    if len(numbers) < len(found) or 0 in numbers:
        raise ConfigurationError(f"{option} {text}: it must be whole numbers with commas between, as in 10k,100000,1M")
    return numbers


def formats_of(text: str | None) -> list[str] | None:
    """Raises ConfigurationError for what is no format of vector events."""
    formats = text.split(",") if text else None
    if formats and not {*formats} <= {*FORMATS}:
        raise ConfigurationError(f"--format {text}: vector events are {' or '.join(FORMATS)}")
    return formats


async def run_benches(
    names: Sequence[str], wanted: Wanted, where: Mapping[str, Any], *, embedded: bool, as_json: bool
) -> None:
    """Measure all points and print them: one JSON line each, or a table for each bench.

    Raises ConfigurationError when all that is wanted needs another broker than the embedded one, MissingExtra where
    there is no embedded broker, Unreachable where there is none at the address.
    """
    if embedded and "restore" in names:
        if len(names) == 1:
            raise ConfigurationError(_NEEDS_A_BROKER)
        sys.stderr.write(f"streamer: left out: {_NEEDS_A_BROKER}\n")
        names = [name for name in names if name != "restore"]
    said = Console(stderr=True, highlight=False)
    printed = Console(highlight=False)
    if not printed.is_terminal:
        printed = Console(highlight=False, width=WIDE)
    for name in names:
        found = []
        for arguments in points(name, wanted):
            with _progress(said, name, arguments):
                found.append(await _point(name, arguments, where, embedded=embedded))
            if as_json:
                sys.stdout.buffer.write(orjson.dumps(found[-1]) + b"\n")
                sys.stdout.buffer.flush()
        if not as_json:
            printed.print(table(name, found))


async def _point(name: str, arguments: dict[str, Any], where: Mapping[str, Any], *, embedded: bool) -> Any:
    async with AsyncExitStack() as stack:
        overrides = dict(where["overrides"])
        if name in ON_A_BROKER and embedded:
            # A new one for each point: what it holds stays in its memory.
            broker = await stack.enter_async_context(EmbeddedBroker())
            overrides = _EMBEDDED | overrides | {"kafka.bootstrap_servers": broker.bootstrap_servers}
        if name == "local":
            # A text that is cut to what the model reads would say nothing of its length.
            overrides = {"input.on_too_long": "chunk"} | overrides | {"cache.enabled": "false"}
        if name in (*ON_A_BROKER, "local"):
            arguments = arguments | {"where": {**where, "overrides": overrides}}
        return await ask("point", bench=name, arguments=arguments)


@contextmanager
def _progress(console: Console, name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    words = ", ".join(f"{key} {value}" for key, value in arguments.items() if value is not None)
    if console.is_terminal:
        with console.status(f"measuring {name}: {words} …"):
            yield
    else:
        yield
