"""`python -m streamer.bench ORDER`: one part of a bench in a process of its own; prints what it returns as JSON.

ORDER is a JSON object: `part` names the function, the rest are its arguments. For `streamer bench`, not for people.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import orjson

from streamer.bench.child import KINDS
from streamer.errors import StreamerError

# Read when numpy is first imported, as cli.py does.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _part(name: str) -> Callable[..., Awaitable[Any]]:
    # Imported here, so that a process holds only what it measures.
    from importlib import import_module

    module, function = PARTS[name]
    found: Callable[..., Awaitable[Any]] = getattr(import_module(f"streamer.bench.{module}"), function)
    return found


PARTS = {
    "point": ("points", "measure"),
    "reading": ("bare", "reading"),
    "restoring": ("restore", "restoring"),
    "worker": ("flow", "worker"),
    "passing_on": ("bare", "passing_on"),
}


async def _run(order: dict[str, Any]) -> None:
    """An error that is meant for people is an answer, too."""
    part = _part(order.pop("part"))
    try:
        answer = {"found": await part(**order)}
    except* StreamerError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        answer = {"error": str(error), "kind": next(kind for kind in KINDS if isinstance(error, KINDS[kind]))}
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    anyio.run(_run, orjson.loads(sys.argv[1]), backend_options={"use_uvloop": sys.platform != "win32"})


if __name__ == "__main__":
    main()
