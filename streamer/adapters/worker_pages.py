"""What workers say about themselves at `/v1/overview`, asked over HTTP by the indexer's dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from socket import AF_INET, AF_INET6, SOCK_STREAM
from typing import Any, Final

import httpx
import orjson
from anyio import create_task_group, getaddrinfo, move_on_after

SECONDS: Final = 2.0
_LATER: Final = 10**11  # seconds since the epoch: no sample is of so late a time
_MOST: Final = 32  # workers behind one name
_LARGEST: Final = 1 << 20  # bytes of an answer


class WorkerPages:
    """The workers at `url`, one of those in the settings: as many as its name has addresses, as the name of a scaled
    service does, and behind each address one, or those of `streamer run --workers`. `token`: their http.token."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        # Proxies of the environment have no business between two roles, and a redirect might lead anywhere. A
        # connection that is kept would be closed by the server about when the next question comes.
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=SECONDS,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def overviews(self) -> Mapping[str, Mapping[str, Any] | str]:
        """By address what each answers, less its history; or why there is no answer, in words."""
        addresses = await self._addresses()
        if not addresses:
            return {self.url: "has a name without an address"}
        said: dict[str, Mapping[str, Mapping[str, Any] | str]] = {}

        async def note(address: str) -> None:
            said[address] = _each(address, await self._ask(address))

        async with create_task_group() as tasks:
            for address in addresses:
                tasks.start_soon(note, address)
        return {name: answer for address in addresses for name, answer in said[address].items()}

    async def _addresses(self) -> list[str]:
        """Asked by its address, a worker need not know what others call it. Over TLS the name is needed."""
        url = httpx.URL(self.url)
        if url.scheme == "https" or url.host == "localhost":
            return [self.url]
        with move_on_after(SECONDS), suppress(OSError):
            found = await getaddrinfo(url.host, url.port or 80, type=SOCK_STREAM)
            # A worker may have an address of either family, and is to be counted once.
            family = AF_INET if any(entry[0] == AF_INET for entry in found) else AF_INET6
            hosts = sorted({entry[4][0] for entry in found if entry[0] == family})[:_MOST]
            return [str(url.copy_with(host=host)).rstrip("/") for host in hosts]
        return []

    async def _ask(self, address: str) -> Mapping[str, Any] | str:
        try:
            async with self._client.stream("GET", f"{address}/v1/overview?since={_LATER}") as response:
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _LARGEST:
                        return "answers more than a worker has to say"
            if response.status_code == 401:
                return "wants another token"
            if response.status_code == 403:
                return "is not known by this name: add it to http.allowed_hosts of the worker"
            if response.status_code != 200:
                return f"answers with HTTP status {response.status_code}"
            said = orjson.loads(body)
        except httpx.TimeoutException:
            return f"does not answer within {SECONDS:g} s"
        except httpx.HTTPError:
            return "does not answer"
        except orjson.JSONDecodeError:
            return "answers no JSON"
        return said if isinstance(said, dict) else "is no worker"

    async def aclose(self) -> None:
        await self._client.aclose()


def _each(address: str, said: Mapping[str, Any] | str) -> Mapping[str, Mapping[str, Any] | str]:
    """Behind the port of `streamer run --workers` are several, and each has a line of its own."""
    several = None if isinstance(said, str) else said.get("processes")
    if not isinstance(several, list):
        return {address: said if isinstance(said, str) else _of_a_worker(said)}
    return {f"{address} ({number})": _of_a_worker(one) for number, one in enumerate(several[:_MOST], 1)}


def _of_a_worker(said: Any) -> Mapping[str, Any] | str:
    if isinstance(said, dict):
        if said.get("role") == "worker":
            return said
        if isinstance(reason := said.get("error"), str):
            return f"tells nothing: {reason}"
    return "is no worker"
