"""`streamer status`: how the processes and their groups are doing, asked now."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial

import anyio
import orjson
from rich.console import Console
from rich.live import Live
from rich.text import Text

from streamer.commands.status_asks import ANSWER_SECONDS, Document, default_urls, groups_of, processes_at
from streamer.commands.status_view import hang_of, lines_of
from streamer.commands.terminal import folded, print_folded
from streamer.errors import Unreachable
from streamer.settings import Settings


async def status(
    settings: Settings,
    urls: Sequence[str],
    *,
    watch: bool,
    as_json: bool,
    interval: float = 2.0,
    timeout: float = ANSWER_SECONDS,
) -> None:
    """Print one line or paragraph for each process and group; with `watch`, again and again until an interrupt.

    Everybody is asked at the same time, and has `timeout` seconds in all: one that hangs does not hold up the others.
    The processes come first, because they answer at once, the brokers may not. Raises Unreachable, after that, when a
    process or the brokers do not answer.
    """
    addresses = urls or default_urls(settings)
    if watch:
        await _watch(settings, addresses, as_json=as_json, interval=interval, timeout=timeout)
        return
    show = _print_json if as_json else _print
    documents: list[Document] = []
    groups: list[Document] = []

    async def ask_groups() -> None:
        groups.extend(await groups_of(settings, timeout))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_groups)
        documents += await processes_at(settings, addresses, timeout)
        show(documents)
    show(groups)
    asked = [*documents, *groups]
    if missing := sum("error" in document for document in asked):
        raise Unreachable(f"{missing} of {len(asked)} did not answer as they should")


async def _watch(settings: Settings, urls: Sequence[str], *, as_json: bool, interval: float, timeout: float) -> None:
    """Brokers that do not answer hold up nothing: what they said last stays on the screen."""
    live = Live(Text("asking ..."), console=Console(highlight=False), screen=True, auto_refresh=False)
    with nullcontext() if as_json else live as screen:
        latest: dict[str, Sequence[Document]] = {"processes": [], "groups": []}

        async def ask(what: str, question: Callable[[], Awaitable[Sequence[Document]]]) -> None:
            while True:
                latest[what] = await question()
                if screen is None:
                    _print_json(latest[what])
                else:
                    lines = lines_of([document for documents in latest.values() for document in documents])
                    parts = [part for line in lines for part in folded(screen.console, line, hang_of(line))]
                    screen.update(Text("\n").join(parts), refresh=True)
                await anyio.sleep(interval)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "processes", partial(processes_at, settings, urls, timeout))
            tasks.start_soon(ask, "groups", partial(groups_of, settings, timeout))


def _print(documents: Sequence[Document]) -> None:
    console = Console(highlight=False)
    for line in lines_of(documents):
        print_folded(console, line, hang_of(line))


def _print_json(documents: Sequence[Document]) -> None:
    for document in documents:
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
    sys.stdout.buffer.flush()
