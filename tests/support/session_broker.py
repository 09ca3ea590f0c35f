"""The broker that the tests marked `kafka` run against, as a pytest plugin.

Which one: the address in STREAMER_KAFKA__BOOTSTRAP_SERVERS if there is one; else the kind in STREAMER_TEST_BROKER
(`java`, `docker` or `embedded`); else the first that comes up of Docker, Java with Maven, and the embedded broker. The
first test that wants it starts it, and all tests of a process share it: with pytest-xdist each process has its own,
unless they were given an address. The summary says which it was and what it left out.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from typing import Any, NoReturn

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from tests.support.brokers import KINDS, Broker, NewTopicName, Unavailable
from tests.support.proxy import Proxy

ADDRESS = "STREAMER_KAFKA__BOOTSTRAP_SERVERS"
KIND = "STREAMER_TEST_BROKER"


class SharedBroker:
    """The session's broker, started when it is first asked for, and what there is to tell about it afterwards."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get(ADDRESS)
        self._wanted = environ.get(KIND)
        self._broker: Broker | None = None
        self._unavailable: Unavailable | None = None
        self.notes: list[str] = []
        self.left_out: list[tuple[str, str]] = []
        if self._wanted and self._wanted not in KINDS:
            raise pytest.UsageError(f"{KIND}={self._wanted}: expected one of {', '.join(KINDS)}")

    def get(self) -> Broker:
        """Raises Unavailable if there is none, and does not try again then."""
        if self._unavailable:
            raise self._unavailable
        if self._broker is None:
            try:
                self._broker = self._open()
            except Unavailable as exc:
                self._unavailable = exc
                raise
            real = "" if self._broker.is_real else ", which is not Apache Kafka"
            self.notes.append(f"{self._broker.kind} broker at {self._broker.bootstrap_servers}{real}")
        return self._broker

    def _open(self) -> Broker:
        if self._address:
            return Broker(self._address)
        if self._wanted:
            return KINDS[self._wanted]()
        for kind, start in KINDS.items():
            try:
                return start()
            except Unavailable as exc:
                self.notes.append(f"no {kind} broker: {exc}")
        raise Unavailable("; ".join(self.notes))

    def close(self) -> None:
        if self._broker is not None:
            self._broker.close()


SHARED = pytest.StashKey[SharedBroker]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHARED] = SharedBroker()


def pytest_unconfigure(config: pytest.Config) -> None:
    if shared := config.stash.get(SHARED, None):
        shared.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make check` leaves tests out by their markers, so what has a broker among its fixtures must have one."""
    unmarked = [item.nodeid for item in items if "broker" in getattr(item, "fixturenames", ()) and not _is_marked(item)]
    if unmarked:
        raise pytest.UsageError(f"tests of a broker that are not marked kafka or real_kafka: {', '.join(unmarked)}")


def _is_marked(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(marker) for marker in ("kafka", "real_kafka"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Started before the test's time begins: fetching Kafka may take longer than a test is given."""
    if _is_marked(item):
        try:
            item.config.stash[SHARED].get()
        except Unavailable as exc:
            item.session.shouldfail = f"no broker for the tests: {exc}"
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves out what the embedded broker cannot do: `@pytest.mark.real_kafka("transactions")` says what that is."""
    marker = item.get_closest_marker("real_kafka")
    if marker and not item.config.stash[SHARED].get().is_real:
        lacks = marker.args[0] if marker.args else "something that this test is about"
        item.config.stash[SHARED].left_out.append((item.nodeid, lacks))
        pytest.skip(f"the embedded broker lacks {lacks}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """What a process of pytest-xdist has to tell goes to the one that writes the summary."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        shared = session.config.stash[SHARED]
        output["broker"] = (shared.notes, shared.left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {}).get("broker")  # none if it crashed
    if told:
        notes, left_out = told
        shared = node.config.stash[SHARED]
        shared.notes += [note for note in notes if note not in shared.notes]
        shared.left_out += [tuple(pair) for pair in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    shared = config.stash[SHARED]
    if shared.notes:
        terminalreporter.section("brokers")
        for note in shared.notes:
            terminalreporter.line(note)
    if shared.left_out:
        terminalreporter.section("left out")
        terminalreporter.line(
            f"{len(shared.left_out)} tests need Apache Kafka (Docker, or Java with Maven) and were left out:"
        )
        for name, lacks in sorted(shared.left_out):
            terminalreporter.line(f"  {name}: {lacks}")


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> Broker:
    """The session's broker, for tests that leave it running."""
    return pytestconfig.stash[SHARED].get()


@pytest.fixture(scope="session")
def bootstrap_servers(broker: Broker) -> str:
    return broker.bootstrap_servers


@pytest.fixture
def stoppable_broker(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The session's broker, for tests that stop it; the next test finds it running."""
    if not broker.can_restart:
        leave_out(request, "a broker of our own, to stop it")
    yield broker
    broker.start()


@pytest.fixture
async def kafka_proxy(broker: Broker, request: pytest.FixtureRequest) -> AsyncIterator[Proxy]:
    """A proxy in front of the session's broker, for clients that use `kafka_proxy.address` for bootstrap.

    They stay behind it, because the broker gives them that address for itself; all others are unaffected.
    """
    if broker.behind_proxy is None:
        leave_out(request, "a broker of our own, to put a proxy before it")
    target, port = broker.behind_proxy
    async with Proxy(target, port) as proxy:
        yield proxy


def leave_out(request: pytest.FixtureRequest, needs: str) -> NoReturn:
    """Skips the test and has the summary name it."""
    request.config.stash[SHARED].left_out.append((request.node.nodeid, needs))
    pytest.skip(f"needs {needs}")


@pytest.fixture
async def new_topic(broker: Broker) -> AsyncIterator[NewTopicName]:
    """Creates topics that no other test knows: `name = await new_topic("texts", partitions=2)`."""
    created: list[str] = []

    async def create(stem: str = "topic", *, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        name = f"{stem}-{uuid.uuid4().hex[:12]}"
        wanted = NewTopic(name, partitions, 1, topic_configs=dict(configs or {}))
        response = await admin.create_topics([wanted])
        for topic, code, *detail in response.topic_errors:  # the client leaves it to us to look
            assert code == 0, f"{topic}: {for_code(code).__name__} {detail}"
        created.append(name)
        with anyio.fail_after(30):
            while not await _has_leaders(admin, name, partitions):  # noqa: ASYNC110 - only asking tells
                await anyio.sleep(0.02)
        return name

    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        yield create
        if broker.kind == "address" and created:
            await admin.delete_topics(created)
    finally:
        await admin.close()


async def _has_leaders(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> bool:
    """The answer to "create" comes before every broker knows the topic."""
    (state,) = await admin.describe_topics([topic])
    leaders = [p["leader"] for p in state["partitions"] if p["error_code"] == 0]
    return state["error_code"] == 0 and len(leaders) == partitions and min(leaders) >= 0
