"""The demo's worker and indexer: processes of their own, as they would be on other machines."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx

import streamer
from streamer.adapters.child import ChildProcess
from streamer.commands.sample import NEAR_DUPLICATE_SIMILARITY
from streamer.errors import StreamerError
from streamer.settings import ENV_DELIMITER, ENV_PREFIX

HOST = "127.0.0.1"
PREFERRED_PORTS = (8080, 8081)  # what the documentation speaks of
ATTEMPTS = 3  # to find ports that are still free when the services listen there
READY_TIMEOUT = 45.0
PROBE_TIMEOUT = 2.0
PROBE_INTERVAL = 0.05
STOP_TIMEOUT = 25.0  # longer than the worker's drain
LAST_LINES = 6

Values: TypeAlias = Mapping[str, Mapping[str, Any]]  # section -> key -> value


class PortTaken(StreamerError):
    """A service has ended, and somebody else listens on its port."""


@dataclass(frozen=True, slots=True)
class Service:
    """`command`: what follows `streamer`. `port`: where it answers `/readyz`."""

    name: str
    command: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def demo_services() -> tuple[Service, Service]:
    """Indexer and worker on free ports: the usual ones if nobody else has them."""
    indexer, worker = (_free_port(port) for port in PREFERRED_PORTS)
    return Service("indexer", "index", indexer), Service("worker", "run", worker)


def demo_settings(bootstrap_servers: str, folder: Path) -> Values:
    """What differs from the defaults, for all of the demo's processes, except where they listen."""
    return {
        "kafka": {
            "bootstrap_servers": bootstrap_servers,
            "partitions": 1,  # so that messages arrive in the order of the sample, and every run finds the same
            # The embedded broker has no idempotence, makes a first member wait for others for half of its session
            # timeout, and looks for new records only now and then while it holds a fetch.
            "idempotent": False,
            "session_timeout_ms": 6_000,
            "fetch_max_wait_ms": 20,
        },
        "input": {"on_too_long": "reject"},
        "provider": {"name": "onnx"},
        "cache": {"path": folder / "cache.sqlite"},
        "index": {"near_duplicate_similarity": NEAR_DUPLICATE_SIMILARITY},
    }


def listening(indexer: Service, worker: Service) -> Values:
    """The settings that say where the two listen."""
    return {"http": {"host": HOST, "port": indexer.port, "worker_port": worker.port}}


def environment_of(values: Values, inherited: Mapping[str, str]) -> dict[str, str]:
    """Settings as environment variables; those of the user's own installation must not leak into the demo."""
    settings = {
        f"{ENV_PREFIX}{section}{ENV_DELIMITER}{key}".upper(): str(value)
        for section, keys in values.items()
        for key, value in keys.items()
    }
    kept = {name: value for name, value in inherited.items() if not _is_setting(name)}
    # The processes run in a folder of their own, away from the user's `streamer.toml`, and still import this package.
    path = [str(Path(streamer.__file__).parent.parent), *filter(None, [inherited.get("PYTHONPATH")])]
    return kept | settings | {"PYTHONPATH": os.pathsep.join(path)}


async def started(values: Values, folder: Path) -> tuple[AsyncExitStack, Service, Service]:
    """Indexer and worker, ready, and what stops them in reverse when it is closed.

    Raises StreamerError, in a group when one of them ends, and as it is when one takes too long.
    """
    for attempt in range(1, ATTEMPTS + 1):
        services = demo_services()
        environment = environment_of({**values, **listening(*services)}, os.environ)
        try:
            async with AsyncExitStack() as stack:
                children = [
                    await stack.enter_async_context(running(service, environment, folder)) for service in services
                ]
                for service, child in zip(services, children, strict=True):
                    await until_ready(service, child)
                return stack.pop_all(), *services
        except ExceptionGroup as ended:
            # Another demo that was started at the same time had found the same ports free.
            if attempt == ATTEMPTS or ended.subgroup(PortTaken) is None:
                raise
    raise AssertionError("the last attempt returns or raises")


@asynccontextmanager
async def running(service: Service, environment: Mapping[str, str], folder: Path) -> AsyncIterator[ChildProcess]:
    """The service's process, for as long as the block runs; its log is `NAME.log` in `folder`.

    Raises StreamerError, in a group, when it ends unasked or does not end well when asked to.
    """
    log = (folder / f"{service.name}.log").open("w+b")
    command = [sys.executable, "-m", "streamer", service.command]
    child = await ChildProcess.start(command, environment=environment, folder=str(folder), log=log)
    try:
        async with beside(partial(_watch, service, child)):
            yield child
    finally:
        await child.stop(STOP_TIMEOUT)
    if child.exit_code:
        raise StreamerError(f"the {service.name} did not stop cleanly (exit code {child.exit_code})")


@asynccontextmanager
async def beside(watch: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run `watch` beside the block, until the block ends; an error of it, in a group, ends the block."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()


async def until_ready(service: Service, child: ChildProcess) -> None:
    """Wait until it is this process that answers, and is ready.

    Raises StreamerError with what was last answered when that takes too long.
    """
    answer = "nothing"
    # Proxies of the environment have no business on loopback.
    async with httpx.AsyncClient(base_url=service.url, timeout=PROBE_TIMEOUT, trust_env=False) as client:
        with anyio.move_on_after(READY_TIMEOUT):
            while True:
                try:
                    response = await client.get("/readyz")
                    if response.is_success and await _is_answering(child, client):
                        return
                    answer = response.text
                except httpx.TransportError as exc:
                    answer = repr(exc)
                await anyio.sleep(PROBE_INTERVAL)
    raise StreamerError(f"the {service.name} was not ready within {READY_TIMEOUT:g} s; it last answered: {answer}")


async def _is_answering(child: ChildProcess, client: httpx.AsyncClient) -> bool:
    try:
        return bool((await client.get("/v1/status")).json()["pid"] == child.pid)
    except (ValueError, LookupError, TypeError):
        return False  # somebody else has the port, and says other things


async def _watch(service: Service, child: ChildProcess) -> None:
    code = await child.wait()
    words = "\n".join(f"  {line}" for line in child.last_lines(LAST_LINES))
    kind = StreamerError if _is_free(service.port) else PortTaken
    raise kind(f"the {service.name} ended unexpectedly (exit code {code}); its last words:\n{words}")


def _is_setting(name: str) -> bool:
    return name.upper().startswith(ENV_PREFIX) and ENV_DELIMITER in name


def _free_port(preferred: int) -> int:
    if _is_free(preferred):
        return preferred
    with _bound(0) as probe:
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    try:
        with _bound(port):
            return True
    except OSError:
        return False


def _bound(port: int) -> socket.socket:
    probe = socket.socket()
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server does: connections may linger
        probe.bind((HOST, port))
    except OSError:
        probe.close()
        raise
    return probe
