"""What every command does around its own work: settings from options, one event loop, errors as one line."""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio
import structlog

from streamer.commands.terminal import one_line
from streamer.commands.writing import let_go_of_standard_output, unwritten
from streamer.errors import (
    ConfigurationError,
    RetriableError,
    StreamerError,
    Unreachable,
    Unwritable,
    without_credentials,
)
from streamer.logs import close_logs, configure_logs
from streamer.settings import Settings, load_settings

EXIT_OK, EXIT_UNEXPECTED, EXIT_WRONG, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def settings_from(config: Path | None, assignments: Sequence[str], **options: Any) -> Settings:
    """Settings with flags on top: `assignments` are `section.key=value`, `options` are `section__key=value`, a list for
    an option that was given several times. The log is configured as they say."""
    overrides = {
        name.replace("__", "."): (",".join(value) or None) if isinstance(value, list) else value
        for name, value in options.items()
    }
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or "." not in name:
            raise ConfigurationError(f"--set {assignment}: expected section.key=value, as in --set batch.linger_ms=10")
        overrides[name.strip()] = value
    settings = load_settings(config, os.environ, overrides)
    log = settings.log
    configure_logs(
        format=log.format,
        level="debug" if _wants_debug() else log.level,
        include_texts=log.include_texts,
        secrets=settings.secrets(),
    )
    return settings


def run_async(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run on an event loop (uvloop where there is one)."""
    if not structlog.is_configured():
        configure_logs(level="debug" if _wants_debug() else "info")
    try:
        return anyio.run(function, *args, backend_options={"use_uvloop": sys.platform != "win32"})
    finally:
        close_logs()


def bind(function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Callable[[], Awaitable[Any]]:
    """For `run_async`, because anyio.run passes on positional arguments only."""

    async def call() -> Any:
        return await function(*args, **kwargs)

    return call


def _wants_debug() -> bool:
    return bool(os.environ.get("STREAMER_DEBUG"))


def report(error: BaseException, *, debug: bool) -> int:
    """Print an error for a person and return the exit code that fits."""
    if debug:
        for line in traceback.format_exception(error):
            print(without_credentials(line), end="", file=sys.stderr)  # noqa: T201
    leaves = list(_leaves(error))
    known = next((leaf for leaf in leaves if isinstance(leaf, StreamerError)), None)
    if known is None:
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
            return EXIT_INTERRUPTED
        first = leaves[0]
        if isinstance(first, BrokenPipeError) and _nobody_reads_us():
            return EXIT_UNEXPECTED
        known = unwritten(first)
    if known is None:
        where = "" if debug else "; run it again with --debug for the traceback"
        _line(f"unexpected {type(first).__name__}: {first}{where}")
        return EXIT_UNEXPECTED
    for line in str(known).splitlines():
        _line(line)
    if isinstance(known, ConfigurationError):
        return EXIT_WRONG
    return EXIT_UNREACHABLE if isinstance(known, Unreachable | Unwritable | RetriableError) else EXIT_UNEXPECTED


def _nobody_reads_us() -> bool:
    """Whether standard output is a pipe whose reader, such as head, has seen enough. What is left goes nowhere then."""
    try:
        place = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(place, 0)
    if not poll.poll(0):
        return False
    let_go_of_standard_output()
    return True


def _leaves(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _line(text: str) -> None:
    print(f"streamer: {one_line(without_credentials(text))}", file=sys.stderr)  # noqa: T201 - stderr is where errors belong, whatever the log does
