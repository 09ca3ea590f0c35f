"""A program that runs beside ours: in a session of its own, its output in a file, and never outliving us."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Self

import anyio
from anyio.abc import Process

LOG_TAIL = 8192  # bytes

# Linux takes the child along when we die without a chance to stop it (SIGKILL, a crash). The request has to be made in
# the child; a `preexec_fn` may deadlock in a program with threads, so a tiny interpreter asks and then becomes the
# program. Our death before it asked shows as another parent.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.getppid() == int(sys.argv[1]) or os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def dying_with_us(command: Sequence[str]) -> Sequence[str]:
    """The command to start instead, so that the program ends when this process does, however it ends (Linux)."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


class ChildProcess:
    """A running child process. Its starter stops it; `command` begins with the path of its program."""

    def __init__(self, process: Process, log: IO[bytes]) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environment: Mapping[str, str], folder: str, log: IO[bytes]
    ) -> Self:
        """Start it in `folder`. What it says goes to `log`, a real file open for both ways; `stop` closes it."""
        try:
            # A session of its own: Ctrl-C in the terminal must reach our clients, which drain before we stop it.
            process = await anyio.open_process(
                dying_with_us(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            log.close()
            raise
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if one ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Until it ends; its exit code."""
        return await self._process.wait()

    async def stop(self, timeout: float) -> None:
        """Ask it to end, and make it end after `timeout` seconds. Runs to its end even if cancelled."""
        with anyio.CancelScope(shield=True):
            if self.exit_code is None:
                self._process.terminate()
            with anyio.move_on_after(timeout):
                await self._process.wait()
            if self.exit_code is None:
                self._process.kill()
            await self._process.aclose()
        self._log.close()

    def last_lines(self, count: int) -> list[str]:
        """The last lines it said, without blank ones and colours."""
        # Not seek and read: the child writes at the position that we would move, the two of us share it.
        log = self._log.fileno()
        tail = os.pread(log, LOG_TAIL, max(0, os.fstat(log).st_size - LOG_TAIL))
        text = re.sub(r"\x1b\[[0-9;]*m", "", tail.decode(errors="replace"))
        return [line.strip() for line in text.splitlines() if line.strip()][-count:]
