"""A Milvus server for tests, Milvus Lite in a process of its own: killed, started again, and never left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamer.adapters.child import dying_with_us
from tests.support.stages import free_port


class MilvusServer:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self._folder / "data")]
        said = self._folder / "milvus.log"
        with said.open("ab") as log:
            self._process = subprocess.Popen(
                dying_with_us([*command, "--host", "127.0.0.1", "--port", str(self.port)]), stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, said.read_text(errors="replace")
            assert time.monotonic() < deadline, "Milvus does not answer"
            time.sleep(0.1)

    def _answers(self) -> bool:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException

        try:
            client: Any = MilvusClient(self.uri, timeout=5)
        except MilvusException:
            return False
        client.close()
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def milvus_server(folder: Path) -> Iterator[MilvusServer]:
    server = MilvusServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
