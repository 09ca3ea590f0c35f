"""`streamer status --watch --json` beside a deployment: what it says, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import anyio

from tests.support.processes import StreamerProcess
from tests.support.schemas import check_lines

INTERVAL = 0.5  # seconds


class StatusWatch:
    """What was said last, by address of a process."""

    def __init__(self, settings: Mapping[str, object], urls: Sequence[str]) -> None:
        asked = [argument for url in urls for argument in ("--url", url)]
        often = ("--interval", str(INTERVAL), "--timeout", "10")  # seconds, on a loaded machine
        self._process = StreamerProcess("status", settings, "--watch", "--json", *often, *asked)
        self._latest: dict[str, dict[str, Any]] = {}
        self._changed = anyio.Event()

    async def read(self) -> None:
        """Until its process ends."""
        assert self._process.process.stdout is not None
        async for line in anyio.wrap_file(self._process.process.stdout):
            [document] = check_lines("status-line", line.decode())
            if document["kind"] == "process":
                self._latest[document["url"]] = document
                changed, self._changed = self._changed, anyio.Event()
                changed.set()

    async def named(self, url: str, reason: str) -> tuple[datetime, datetime]:
        """Waits for this process to wait for this: when it answered so, and since when it waits."""
        while True:
            document = self._latest.get(url, {})
            for waits in document.get("waits", []):
                if waits["reason"] == reason:
                    return datetime.fromisoformat(document["at"]), datetime.fromisoformat(waits["since"])
            await self._changed.wait()

    def end(self) -> None:
        self._process.process.kill()

    def close(self) -> None:
        self._process.close()


@asynccontextmanager
async def watching_status(settings: Mapping[str, object], urls: Sequence[str]) -> AsyncIterator[StatusWatch]:
    watch = StatusWatch(settings, urls)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.read)
            try:
                yield watch
            finally:
                watch.end()  # which ends the reading
    finally:
        watch.end()
        watch.close()
