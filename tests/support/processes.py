"""Real `streamer` processes for tests: started, watched, signalled, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import psutil

from streamer.adapters.child import dying_with_us

ROOT = Path(__file__).parents[2]


class StreamerProcess:
    """`python -m streamer COMMAND` with settings from the environment; its stderr is kept for the assertion message."""

    def __init__(
        self, command: str, settings: Mapping[str, object], *arguments: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMER_")}
        for name, value in settings.items():
            section, key = name.split(".")
            environment[f"STREAMER_{section}__{key}".upper()] = str(value)
        environment |= environ or {}
        self.process = subprocess.Popen(
            dying_with_us([sys.executable, "-m", "streamer", command, *arguments]),
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    @property
    def stderr(self) -> str:
        """All of it so far; after `close`, all that it ever wrote."""
        if self._log.closed:
            return self._last
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The log lines so far; what is no JSON object, such as a last word to a person, is left out."""
        return [orjson.loads(line) for line in self.stderr.splitlines() if line.startswith("{") and line.endswith("}")]

    async def logged(self, count: int, wanted: Callable[[dict[str, Any]], bool], timeout: float = 60.0) -> None:
        """Wait for this many lines of the kind."""
        deadline = time.monotonic() + timeout
        while sum(map(wanted, self.logs)) < count:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.stderr[-4000:]}"
            assert time.monotonic() < deadline, f"not logged:\n{self.stderr[-4000:]}"
            await anyio.sleep(0.05)

    @property
    def rss(self) -> int:
        """Resident bytes now."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def cpu_seconds(self) -> float:
        """Spent on a processor until now, by all of its threads."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def wait(self, timeout: float = 30.0) -> int:
        """The exit code; fails with the process's log when it does not end in time."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running after {timeout} s:\n{self.stderr[-4000:]}"
            await anyio.sleep(0.02)
        return int(self.process.returncode)

    async def ready(self, port: int, timeout: float = 60.0) -> None:
        """Wait for `GET /readyz` to answer 200."""
        deadline = time.monotonic() + timeout
        said = ""
        async with httpx.AsyncClient() as client:
            while True:
                assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.stderr[-4000:]}"
                assert time.monotonic() < deadline, f"not ready ({said}):\n{self.stderr[-4000:]}"
                try:
                    response = await client.get(f"http://127.0.0.1:{port}/readyz")
                    said = response.text
                    if response.status_code == 200:
                        return
                except httpx.TransportError as exc:
                    said = repr(exc)
                await anyio.sleep(0.05)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._last = self.stderr
        self._log.close()


@contextmanager
def streamer(command: str, settings: Mapping[str, object], *arguments: str) -> Iterator[StreamerProcess]:
    process = StreamerProcess(command, settings, *arguments)
    try:
        yield process
    finally:
        process.close()
