"""Parts of a bench in processes of their own, so that their memory and processor time are theirs alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
from anyio.abc import Process

import streamer
from streamer.adapters.child import dying_with_us
from streamer.errors import ConfigurationError, RetriableError, StreamerError, Unreachable

KINDS: Mapping[str, type[StreamerError]] = {
    "wrong": ConfigurationError,
    "unreachable": Unreachable,
    "retriable": RetriableError,
    "other": StreamerError,
}
"""Errors of a part that are meant for people, as their names travel."""


async def ask(part: str, **parameters: Any) -> Any:
    """What `part` returned, see __main__. Raises the StreamerError that it raised, or one that says that it failed."""
    async with started(part, **parameters) as process:
        return await answer_of(part, process)


@asynccontextmanager
async def started(part: str, **parameters: Any) -> AsyncIterator[Process]:
    """The running part; ended with the block. What it says on standard error goes to ours."""
    order = orjson.dumps({"part": part, **parameters}).decode()
    command = dying_with_us([sys.executable, "-m", "streamer.bench", order])
    path = [str(Path(streamer.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    process = await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=None, env=environment)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            await process.aclose()


async def answer_of(part: str, process: Process) -> Any:
    """What it prints until it ends, as JSON."""
    said = b"".join([chunk async for chunk in process.stdout]) if process.stdout else b""
    if await process.wait():
        raise StreamerError(f"the bench's part {part!r} failed (exit code {process.returncode})")
    answer = orjson.loads(said)
    if "error" in answer:
        raise KINDS[answer["kind"]](answer["error"])
    return answer["found"]
