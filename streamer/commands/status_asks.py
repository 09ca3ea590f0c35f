"""Processes and brokers asked how they are, all at the same time and all within one deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, TypeAlias

import anyio
import httpx

from streamer.adapters.kafka.groups import Group, Watcher, watching
from streamer.app.connection import connection_of
from streamer.errors import StreamerError
from streamer.settings import Settings

ANSWER_SECONDS: Final = 2.0  # for everybody together: whoever looks at an outage shall not wait for it
EVERYWHERE: Final = ("0.0.0.0", "::", "[::]")  # noqa: S104 - addresses to listen on, which nobody can call

Document: TypeAlias = dict[str, Any]


def default_urls(settings: Settings) -> list[str]:
    """Of the processes that these settings start on this machine."""
    http = settings.http
    host = "127.0.0.1" if http.host in EVERYWHERE else http.host
    return [f"http://{host}:{port}" for port in (http.worker_port, http.port) if port]


async def processes_at(settings: Settings, urls: Sequence[str], timeout: float) -> list[Document]:
    """What everybody says now. Who does not answer within `timeout` seconds has an `error`."""
    found: list[list[Document]] = [[] for _ in urls]
    token = settings.http.token
    headers = {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}

    async def ask(place: int, client: httpx.AsyncClient) -> None:
        processes: list[Document] = [{"error": f"{urls[place]} does not answer within {timeout:g} s"}]
        with anyio.move_on_after(timeout):
            processes = await _processes(client, urls[place])
        found[place] = [{"kind": "process", "url": urls[place], **process} for process in processes]

    whole = httpx.Timeout(None)  # its limits are of single steps of an exchange
    # To read the certificates of all authorities takes longer than the questions.
    has_tls = any(url.lower().startswith("https:") for url in urls)
    async with (
        httpx.AsyncClient(headers=headers, timeout=whole, verify=has_tls) as client,
        anyio.create_task_group() as tasks,
    ):
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
    except (ValueError, RecursionError):
        return {"error": f"{url} is no worker or indexer of streamer"}
    if isinstance(answer, dict) and response.is_success and ("role" in answer or answer.get("processes")):
        return answer
    reason = answer.get("error") if isinstance(answer, dict) else None
    return {"error": f"{url} answers {response.status_code}: {reason or 'this is no worker or indexer of streamer'}"}


async def groups_of(settings: Settings, timeout: float) -> list[Document]:
    """What the brokers say of them within `timeout` seconds. The groups that were not told of by then have an `error`;
    there is one for both where no broker was reached."""
    servers = settings.kafka.bootstrap_servers
    silent = f"Kafka at {servers} does not answer within {timeout:g} s"
    ids = [settings.kafka.group_id, f"{settings.kafka.group_id}-verdicts"]
    found: dict[str, Document] = {}
    is_reached = False

    async def ask(watcher: Watcher, id: str) -> None:
        found[id] = await _group(watcher, id)

    with anyio.move_on_after(timeout):
        try:
            async with watching(connection_of(settings)) as watcher, anyio.create_task_group() as tasks:
                is_reached = True
                for id in ids:
                    tasks.start_soon(ask, watcher, id)
        except StreamerError as exc:
            return [{"kind": "group", "id": ids[0], "error": str(exc)}]
    asked = ids if is_reached else ids[:1]
    return [found.get(id, {"kind": "group", "id": id, "error": silent}) for id in asked]


async def _group(watcher: Watcher, id: str) -> Document:
    try:
        return group_document(await watcher.group(id))
    except StreamerError as exc:
        return {"kind": "group", "id": id, "error": str(exc)}


def group_document(group: Group) -> Document:
    partitions = [{"topic": tp.topic, "partition": tp.partition, "lag": lag} for tp, lag in sorted(group.lag.items())]
    document = {"kind": "group", **asdict(group), "lag": sum(group.lag.values()) if group.lag else None}
    return {**document, "partitions": partitions}
