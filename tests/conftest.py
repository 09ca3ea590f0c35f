"""Shared by all tests: the event loop that aiokafka needs."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
