"""Field case F12: a group that takes its time is waited for, in words; brokers that do not answer are not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError

from streamer.adapters.kafka import joining
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.errors import Unreachable

pytestmark = pytest.mark.anyio

PATIENCE = 0.2
CONNECTION = KafkaConnection(bootstrap_servers="kafka:9092", connect_timeout=PATIENCE)


class Consumer:
    """Joins when it is `admitted`. Its coordinator answers what `describe` says, or raises it."""

    def __init__(self, describe: Callable[[], Any]) -> None:
        self.admitted = asyncio.Event()
        self.was_cancelled = False
        self._coordinator = SimpleNamespace(
            group_id="g", coordinator_id=1, member_id="me", _session_timeout_ms=45_000, _group_instance_id=None
        )
        self._describe = describe
        self._client = SimpleNamespace(send=self._send)

    async def start(self) -> None:
        try:
            await self.admitted.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    async def _send(self, _: int, __: object) -> Any:
        answer = self._describe()
        if isinstance(answer, Exception):
            raise answer
        return answer


def group(state: str, *members: str) -> Any:
    rows = [(id, "client", f"/10.0.0.{n}", b"", b"") for n, id in enumerate(members)]
    return SimpleNamespace(groups=[(0, "g", state, "consumer", "", rows)])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "_LOOK_SECONDS", 0.01)


async def joined(
    consumer: Consumer, after: Callable[[Sequence[str | None]], bool], connection: KafkaConnection = CONNECTION
) -> list[str | None]:
    """What is told until the group admits the consumer, which it does `after` so much."""
    told: list[str | None] = []

    def tell(words: str | None) -> None:
        told.append(words)
        if after(told):
            consumer.admitted.set()

    with anyio.fail_after(20):
        await joining.join(connection, consumer, tell)
    assert told[-1] is None, "it is over"
    return told[:-1]


def long_enough(patience: float = PATIENCE) -> Callable[[Sequence[str | None]], bool]:
    """Half as long again as a broker may take to answer, and some looks."""
    began = asyncio.get_running_loop().time()
    return lambda told: len(told) > 3 and asyncio.get_running_loop().time() - began > 1.5 * patience


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            group("PreparingRebalance", "dead", "me"),
            "is in state PreparingRebalance with 1 other members; a killed one",
        ),
        (
            group("CompletingRebalance", "dead", "me", "killed while joining"),
            "CompletingRebalance with 2 other members",
        ),
        (group("Dead"), "the group 'g' is in state Dead"),
        (group(""), "the group 'g' is in state unknown"),
        (IncompatibleBrokerVersion("no"), "the group 'g'"),
        (NotImplementedError(), "the group 'g'"),
    ],
)
async def test_row_f12_a_group_is_waited_for_as_long_as_a_broker_answers(answer: Any, words: str) -> None:
    told = await joined(Consumer(lambda: answer), long_enough())
    assert len(told) > 3
    assert all(words in (said or "") for said in told)


@pytest.mark.slow
async def test_row_f12_a_coordinator_that_is_away_for_a_moment_is_no_end() -> None:
    answers = iter([KafkaConnectionError("gone"), group("PreparingRebalance", "dead")] * 500)
    patient = replace(CONNECTION, connect_timeout=1.0)  # longer than this process may have to wait for a processor
    told = await joined(Consumer(lambda: next(answers)), long_enough(1.0), patient)
    assert any("with 1 other members" in (said or "") for said in told)


@pytest.mark.parametrize("answer", [KafkaConnectionError("gone"), SimpleNamespace(groups=[])])
async def test_row_f12_brokers_that_say_nothing_of_the_group_are_not_waited_for_without_end(answer: Any) -> None:
    consumer = Consumer(lambda: answer)
    with pytest.raises(Unreachable, match="cannot be reached: no answer about the group for"):
        await joined(consumer, lambda _: False)
    assert consumer.was_cancelled


async def test_row_f12_an_error_of_the_join_itself_is_told() -> None:
    consumer = Consumer(lambda: group("Stable"))

    async def start() -> None:
        await consumer.admitted.wait()
        raise KafkaConnectionError("no")

    fails: Callable[[], Awaitable[None]] = start
    consumer.start = fails  # type: ignore[method-assign, assignment]
    with pytest.raises(Unreachable, match="no broker answers there"):
        await joined(consumer, lambda told: len(told) > 2)


async def test_row_f11_whoever_stops_meanwhile_takes_the_join_back() -> None:
    consumer = Consumer(lambda: group("PreparingRebalance", "dead"))
    with anyio.CancelScope() as scope:

        def leave(_: Sequence[str | None]) -> bool:
            scope.cancel()
            return False

        await joined(consumer, leave)
    assert scope.cancelled_caught
    assert consumer.was_cancelled
