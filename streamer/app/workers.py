"""`streamer run --workers N`: several workers on one machine, each a process of its own, and one port for all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx
import structlog
from anyio.abc import Process

from streamer.adapters.child import dying_with_us
from streamer.app.http import token_of, warn_if_open
from streamer.app.signals import until_signalled
from streamer.core.vendors import VENDORS
from streamer.cpus import usable_cores
from streamer.embedding.backoff import BackoffPolicy
from streamer.http.server import serve
from streamer.http.sums import Readiness, Sums, create_sums_app, readiness_of
from streamer.settings import Settings

log = structlog.get_logger(__name__)

RESTARTS: Final = BackoffPolicy(initial=1.0, maximum=30.0)
SOUND_SECONDS: Final = 60.0  # a worker that has run so long did not end for what it found at its start
LOOK_SECONDS: Final = 2.0  # the numbers of a worker that is killed are at most so old
ASK_SECONDS: Final = 2.0
STATUS_SECONDS: Final = 1.0  # less than `streamer status` waits: one that hangs hides no other
CLOSE_SECONDS: Final = 15.0  # beyond the drain: to leave the group, to close files and connections
END_SECONDS: Final = 3.0
EXIT_WRONG: Final = 2


def report_to(as_worker: str) -> Callable[[int], None] | None:
    """What a worker does with its port when it serves, where `streamer run --workers` has started it: `number:handle`.

    From then on its log lines tell its number.
    """
    if not as_worker:
        return None
    number, _, handle = as_worker.partition(":")
    structlog.contextvars.bind_contextvars(worker=int(number))

    def report(port: int) -> None:
        os.write(int(handle), b"%d" % port)

    return report


@dataclass(slots=True)
class Member:
    """One worker's place. `port`: of its process, once it serves; `says`: why it does not."""

    number: int
    process: Process | None = None
    port: int | None = None
    says: str = "starting"
    code: int = 0  # of its last process


class Workers:
    """Starts them, starts again those that end, asks them how they are, and passes signals on."""

    def __init__(self, settings: Settings, count: int, arguments: Sequence[str]) -> None:
        self._settings = settings
        self._arguments = arguments
        self._members = [Member(number) for number in range(1, count + 1)]
        self._stopping = anyio.Event()
        self._sums = Sums()
        token = token_of(settings)
        self._client = httpx.AsyncClient(
            timeout=ASK_SECONDS, headers={"authorization": f"Bearer {token}"} if token else {}, trust_env=False
        )
        self._gave_up: int | None = None

    @property
    def code(self) -> int:
        """The exit code that tells how they ended."""
        if self._gave_up is not None:
            return self._gave_up
        # One that is told to stop before it listens to signals ends by that one.
        return int(any(member.code not in (0, -signal.SIGTERM) for member in self._members))

    def stop(self) -> None:
        """Let all of them drain and commit."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    async def run(self) -> None:
        """Until a stop, or until there is something that no restart mends.

        The first one starts alone: what is wrong with the settings is told once, and topics are created by one.
        """
        try:
            async with self._client, anyio.create_task_group() as tasks:
                serves = anyio.Event()
                tasks.start_soon(self._keep, self._members[0], serves)
                await serves.wait()
                for member in self._members[1:]:
                    tasks.start_soon(self._keep, member, serves)
                tasks.start_soon(self._look)
                await self._stopping.wait()
                await self._drain()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def readiness(self) -> Readiness:
        said: dict[int, Mapping[str, Any] | str] = {}

        async def ask(member: Member) -> None:
            answer = await self._ask(member, "readyz")
            silent = member.says if member.port is None else "no answer"
            said[member.number] = silent if answer is None else answer.json()

        async with anyio.create_task_group() as tasks:
            for member in self._members:
                tasks.start_soon(ask, member)
        return readiness_of(said)

    async def sums(self) -> Sums:
        """The numbers of all of them, as of now."""

        async def ask(member: Member) -> None:
            process = member.process
            answer = await self._ask(member, "metrics")
            if answer is not None and answer.status_code == 200 and member.process is process:
                self._sums.seen(member.number, answer.text)

        async with anyio.create_task_group() as tasks:
            for member in self._members:
                tasks.start_soon(ask, member)
        return self._sums

    async def documents(self, path: str) -> list[Mapping[str, Any]]:
        """In order what each answers there. Of those that do not answer an `error` with the reason."""
        found: dict[int, Mapping[str, Any]] = {}

        async def ask(member: Member) -> None:
            answer = None
            with anyio.move_on_after(STATUS_SECONDS):
                answer = await self._ask(member, path)
            if answer is not None and answer.status_code == 200:
                found[member.number] = answer.json()
            else:
                says = member.says if member.port is None else f"no answer within {STATUS_SECONDS:g} s"
                found[member.number] = {"error": f"worker {member.number}: {says}"}

        async with anyio.create_task_group() as tasks:
            for member in self._members:
                tasks.start_soon(ask, member)
        return [document for _, document in sorted(found.items())]

    async def _ask(self, member: Member, what: str) -> httpx.Response | None:
        if member.port is not None:
            with suppress(httpx.TransportError):
                return await self._client.get(f"http://127.0.0.1:{member.port}/{what}")
        return None

    async def _look(self) -> None:
        while True:
            await self.sums()
            await anyio.sleep(LOOK_SECONDS)

    async def _keep(self, member: Member, serves: anyio.Event) -> None:
        """One worker after the other in this place. `serves` is set when the first of them does, or has ended."""
        failures = 0
        while not self._stopping.is_set():
            began = anyio.current_time()
            member.code = await self._work(member, serves)
            self._sums.ended(member.number)
            if self._stopping.is_set():
                break
            if member.code == EXIT_WRONG or not serves.is_set():
                self._gave_up = member.code or 1
                self.stop()
                break
            failures = 1 if anyio.current_time() - began >= SOUND_SECONDS else failures + 1
            delay = RESTARTS.delay(failures - 1, jitter=random.random())  # noqa: S311
            facts = {"worker": member.number, "code": member.code, "seconds": round(delay, 1)}
            log.warning("worker ended; starting it again", **facts)
            member.says = f"ended with exit code {member.code}; it is started again"
            with anyio.move_on_after(delay):
                await self._stopping.wait()
        serves.set()

    async def _work(self, member: Member, serves: anyio.Event) -> int:
        """The exit code of one process."""
        hears, says = os.pipe()
        try:
            process = await anyio.open_process(
                dying_with_us(self._command(member, says)),
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                # Ctrl-C in a terminal goes to its whole group: from us alone they hear of it, and once.
                start_new_session=True,
                pass_fds=[says],
            )
        except BaseException:
            os.close(hears)
            raise
        finally:
            os.close(says)
        member.process = process
        try:
            if self._stopping.is_set():
                process.terminate()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._hear, member, hears, serves)
                code = await process.wait()
                tasks.cancel_scope.cancel()
        finally:
            os.close(hears)
            if process.returncode is not None:
                member.process = None
            member.port = None
        return code

    async def _hear(self, member: Member, hears: int, serves: anyio.Event) -> None:
        """The worker tells its port when it serves."""
        await anyio.wait_readable(hears)
        if told := os.read(hears, 64):
            member.port = int(told)
            serves.set()

    def _command(self, member: Member, says: int) -> list[str]:
        changes = {"http.host": "127.0.0.1", "http.worker_port": "0"}
        if static := self._settings.kafka.group_instance_id:
            changes["kafka.group_instance_id"] = f"{static}-{member.number}"
        provider = self._settings.provider
        if VENDORS[provider.name].is_local and provider.threads is None:
            changes["provider.threads"] = str(max(1, usable_cores() // len(self._members)))
        return [
            *(sys.executable, "-m", "streamer", "run", *self._arguments),
            *(word for name, value in changes.items() for word in ("--set", f"{name}={value}")),
            *("--as-worker", f"{member.number}:{says}"),
        ]

    def _running(self) -> list[Member]:
        return [member for member in self._members if member.process is not None]

    def _signal(self, number: signal.Signals) -> None:
        for member in self._running():
            if member.process is not None:
                with suppress(ProcessLookupError):
                    member.process.send_signal(number)

    async def _drain(self) -> None:
        with anyio.move_on_after(self._settings.delivery.drain_timeout_ms / 1000 + CLOSE_SECONDS):
            await self._ended()
        if stuck := self._running():
            log.error("workers do not end; killing them", workers=[member.number for member in stuck])
            self._gave_up = 1

    async def _ended(self) -> None:
        while self._running():  # noqa: ASYNC110 - each is waited for in a task of its own
            await anyio.sleep(0.02)

    async def _end(self) -> None:
        """Leave none behind. A second signal has them stop at once."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for member in self._running():
                if member.process is not None:
                    with suppress(ProcessLookupError):
                        member.process.send_signal(number)
                    with anyio.move_on_after(END_SECONDS):
                        await member.process.wait()
                        member.process = None


async def run_workers(settings: Settings, count: int, arguments: Sequence[str]) -> int:
    """Until a signal, then drained and committed; the exit code. `arguments`: of `streamer run`, for each of them."""
    workers = Workers(settings, count, arguments)
    async with until_signalled(workers.stop), anyio.create_task_group() as tasks:
        warn_if_open(settings, "state and numbers of the workers")
        app = create_sums_app(workers, token_of(settings))
        port = await tasks.start(serve, app, settings.http.host, settings.http.worker_port, "http.worker_port")
        log.info("workers starting", workers=count, port=port)
        await workers.run()
        tasks.cancel_scope.cancel()
    log.info("workers stopped", code=workers.code)
    return workers.code
