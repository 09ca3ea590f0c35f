"""Shared by all tests: the event loop that aiokafka needs, and the broker."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.session_broker"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
