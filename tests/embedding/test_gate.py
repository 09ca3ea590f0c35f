from __future__ import annotations

import anyio
import pytest

from streamer.embedding.backoff import BackoffPolicy
from streamer.embedding.gate import Gate
from streamer.embedding.quota import Quota
from streamer.errors import ProviderBlocked

pytestmark = pytest.mark.anyio


async def test_a_debugger_reads_how_many_calls_are_open_and_what_holds_others_back() -> None:
    policy = BackoffPolicy()
    gate = Gate(Quota(requests_per_minute=100), concurrency=4, backoff=policy, probing=policy, random=lambda: 0.0)
    with anyio.fail_after(5):
        async with gate.admit(10, 1) as call:
            assert repr(gate) == "<Gate: 1 of 4 calls open, 0 failures in a row>"
            await gate.failed(call, ProviderBlocked("wrong key"), 0)
    assert repr(gate) == "<Gate: 0 of 4 calls open, blocked: wrong key>"
