"""Tests of this folder run on a virtual clock: waiting for an hour takes no time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.virtual_time import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}
