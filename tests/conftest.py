"""Shared by all tests: the event loop that aiokafka needs, and the broker."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from hypothesis import settings
from structlog.testing import capture_logs

# A shell without job control has what it starts in the background ignore SIGINT, and so would the programs that tests
# interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine's other work than about us. `make check` looks at fewer examples
# of each property than `make test`, to answer within a minute.
settings.register_profile("test", deadline=None)
settings.register_profile("check", deadline=None, max_examples=10)
settings.load_profile("test")

pytest_plugins = [
    "tests.support.distribution",
    "tests.support.read_once",
    "tests.support.session_broker",
    "tests.support.side_by_side",
]


def pytest_collection_finish() -> None:
    """What was imported and collected stays until the end: the garbage collector need not look through it again."""
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """The lines that we log during the test, each a mapping with `event`, `log_level` and the facts."""
    with capture_logs() as lines:
        yield lines
