"""`streamer status`: how the processes and their groups are doing, asked now."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import anyio
import httpx
import orjson
from rich.console import Console
from rich.live import Live
from rich.text import Text

from streamer.adapters.kafka.groups import Group, Watcher, watching
from streamer.app.kafka import connection_of
from streamer.commands.status_view import lines_of
from streamer.errors import StreamerError, Unreachable
from streamer.settings import Settings

ANSWER_SECONDS: Final = 3.0
EVERYWHERE: Final = ("0.0.0.0", "::", "[::]")  # noqa: S104 - addresses to listen on, which nobody can call

Document = dict[str, Any]


async def status(settings: Settings, urls: Sequence[str], *, watch: bool, as_json: bool, interval: float = 2.0) -> None:
    """Print one line or paragraph for each process and group; with `watch`, again and again until an interrupt.

    The processes come first: they answer at once, the brokers may not. Raises Unreachable, after that, when a process
    or the brokers do not answer.
    """
    addresses = urls or default_urls(settings)
    if watch:
        await _watch(settings, addresses, as_json=as_json, interval=interval)
        return
    show = _print_json if as_json else _print
    documents: list[Document] = []
    groups: list[Document] = []

    async def ask_groups() -> None:
        groups.extend(await groups_of(settings))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_groups)
        documents += await processes_at(settings, addresses)
        show(documents)
    show(groups)
    missing = [str(document["error"]) for document in [*documents, *groups] if "error" in document]
    if missing:
        raise Unreachable("\n".join(missing))


def default_urls(settings: Settings) -> list[str]:
    """Of the processes that these settings start on this machine."""
    http = settings.http
    host = "127.0.0.1" if http.host in EVERYWHERE else http.host
    return [f"http://{host}:{port}" for port in (http.worker_port, http.port) if port]


async def processes_at(settings: Settings, urls: Sequence[str]) -> list[Document]:
    """What everybody says now. Who does not answer has an `error`."""
    found: list[list[Document]] = [[] for _ in urls]
    token = settings.http.token
    headers = {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}

    async def ask(place: int, client: httpx.AsyncClient) -> None:
        processes = await _processes(client, urls[place])
        found[place] = [{"kind": "process", "url": urls[place], **process} for process in processes]

    async with httpx.AsyncClient(headers=headers, timeout=ANSWER_SECONDS) as client, anyio.create_task_group() as tasks:
        for place in range(len(urls)):
            tasks.start_soon(ask, place, client)
    return [document for documents in found for document in documents]


async def _processes(client: httpx.AsyncClient, url: str) -> list[Document]:
    """What is there: one process, or all that `streamer run --workers` has started."""
    answer = await _answer(client, url)
    return answer["processes"] if isinstance(answer.get("processes"), list) else [answer]


async def _answer(client: httpx.AsyncClient, url: str) -> Document:
    try:
        response = await client.get(f"{url.rstrip('/')}/v1/status")
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        return {"error": f"no worker or indexer answers at {url} ({str(exc) or type(exc).__name__})"}
    except ValueError:
        return {"error": f"{url} is no worker or indexer of streamer"}
    if isinstance(answer, dict) and response.is_success and ("role" in answer or answer.get("processes")):
        return answer
    reason = answer.get("error") if isinstance(answer, dict) else None
    return {"error": f"{url} answers {response.status_code}: {reason or 'this is no worker or indexer of streamer'}"}


async def groups_of(settings: Settings) -> list[Document]:
    """What the brokers say of them now."""
    ids = [settings.kafka.group_id, f"{settings.kafka.group_id}-verdicts"]
    try:
        async with watching(connection_of(settings)) as watcher:
            return [await _group(watcher, id) for id in ids]
    except StreamerError as exc:
        return [{"kind": "group", "id": ids[0], "error": str(exc)}]


async def _group(watcher: Watcher, id: str) -> Document:
    try:
        return group_document(await watcher.group(id))
    except StreamerError as exc:
        return {"kind": "group", "id": id, "error": str(exc)}


def group_document(group: Group) -> Document:
    partitions = [{"topic": tp.topic, "partition": tp.partition, "lag": lag} for tp, lag in sorted(group.lag.items())]
    document = {"kind": "group", **asdict(group), "lag": sum(group.lag.values()) if group.lag else None}
    return {**document, "partitions": partitions}


async def _watch(settings: Settings, urls: Sequence[str], *, as_json: bool, interval: float) -> None:
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
                    screen.update(Text("\n").join(lines), refresh=True)
                await anyio.sleep(interval)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "processes", partial(processes_at, settings, urls))
            tasks.start_soon(ask, "groups", partial(groups_of, settings))


def _print(documents: Sequence[Document]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in lines_of(documents):
        console.print(line)


def _print_json(documents: Sequence[Document]) -> None:
    for document in documents:
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
    sys.stdout.buffer.flush()
