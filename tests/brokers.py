"""The broker that the tests marked `kafka` run against, as a pytest plugin.

Which one: the address in STREAMER_KAFKA__BOOTSTRAP_SERVERS if there is one; else the kind in STREAMER_TEST_BROKER
(`java`, `docker` or `embedded`); else the first that comes up of Docker, Java with Maven, and the embedded broker. All
tests share it; without a test that wants one, none is started. The summary says which it was and what it left out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Protocol

import anyio
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from anyio.from_thread import start_blocking_portal

from streamer.adapters.broker import EmbeddedBroker
from streamer.errors import StreamerError

ADDRESS = "STREAMER_KAFKA__BOOTSTRAP_SERVERS"
KIND = "STREAMER_TEST_BROKER"
IMAGE = "apache/kafka:4.3.1"
DOCKER_ANSWERS_WITHIN = 3.0
DOCKER_STARTS_WITHIN = 300.0  # it may have to fetch the image


def load_kafka() -> Any:
    """`deploy/kafka/kafka.py`, which is a script for people and belongs to no package."""
    path = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.py"
    spec = importlib.util.spec_from_file_location("deploy_kafka", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kafka = load_kafka()


class Unavailable(Exception):
    """This kind of broker cannot be had here, and why."""


class Broker:
    """A running broker.

    Where `can_restart`, `stop`, `kill` and `start` keep its address and data. They block: call them in a thread.
    """

    kind: ClassVar[str] = "address"
    can_restart: ClassVar[bool] = False

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    @property
    def is_real(self) -> bool:
        """Apache Kafka, hence with idempotent producers and transactions."""
        return self.kind != "embedded"

    def start(self) -> None:
        raise NotImplementedError(f"{self.kind} broker")

    def stop(self) -> None:
        raise NotImplementedError(f"{self.kind} broker")

    def kill(self) -> None:
        raise NotImplementedError(f"{self.kind} broker")

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends it for good, if it is ours."""


class Embedded(Broker):
    """Runs on an event loop of its own: the tests' loops come and go."""

    kind = "embedded"

    def __init__(self) -> None:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio"))
            try:
                broker = stack.enter_context(portal.wrap_async_context_manager(EmbeddedBroker()))
            except StreamerError as exc:
                raise Unavailable(str(exc)) from exc
            self._running = stack.pop_all()
        super().__init__(broker.bootstrap_servers)

    def close(self) -> None:
        self._running.close()


class Java(Broker):
    kind = "java"
    can_restart = True

    def __init__(self) -> None:
        self.node = kafka.Kafka()
        try:
            self.start()
        except (kafka.KafkaError, OSError, subprocess.SubprocessError) as exc:
            self.node.close()
            raise Unavailable(str(exc)) from exc
        super().__init__(self.node.bootstrap_servers)

    def start(self) -> None:
        if not self.node.running:
            self.node.start()

    def stop(self) -> None:
        self.node.stop()

    def kill(self) -> None:
        self.node.kill()

    def close(self) -> None:
        self.node.close()


class Docker(Broker):
    kind = "docker"
    can_restart = True

    def __init__(self) -> None:
        if not docker_answers():
            raise Unavailable("no Docker engine answers")
        (self._port,) = kafka.free_ports(1)
        self._name = f"streamer-test-{uuid.uuid4().hex[:8]}"
        # One given setting makes the image forget its own, so all of them are given.
        settings = {
            **kafka.SETTINGS,
            "listeners": "CLIENT://:9092,INTERNAL://:9094,CONTROLLER://:9093",
            "advertised.listeners": f"CLIENT://127.0.0.1:{self._port},INTERNAL://localhost:9094",
            "controller.quorum.voters": "1@localhost:9093",
        }
        given = [f"--env=KAFKA_{key.upper().replace('.', '_')}={value}" for key, value in settings.items()]
        try:
            self._docker(
                "run", "--detach", f"--name={self._name}", f"--publish=127.0.0.1:{self._port}:9092", *given, IMAGE
            )
            self._wait()
        except Unavailable:
            self.close()
            raise
        super().__init__(f"127.0.0.1:{self._port}")

    def start(self) -> None:
        self._docker("start", self._name)
        self._wait()

    def stop(self) -> None:
        self._docker("stop", self._name)

    def kill(self) -> None:
        self._docker("kill", self._name)

    def close(self) -> None:
        subprocess.run(["docker", "rm", "-f", "-v", self._name], capture_output=True, timeout=60, check=False)

    def _docker(self, *arguments: str) -> None:
        try:
            subprocess.run(
                ["docker", *arguments], capture_output=True, text=True, timeout=DOCKER_STARTS_WITHIN, check=True
            )
        except subprocess.TimeoutExpired as exc:
            raise Unavailable(f"docker {arguments[0]} takes more than {exc.timeout:g} s") from exc
        except subprocess.CalledProcessError as exc:
            raise Unavailable(f"docker {arguments[0]}: {exc.stderr.strip()}") from exc

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while not kafka.ready(self._port, b""):
            if time.monotonic() > deadline:
                raise Unavailable("Kafka in Docker does not get ready")
            time.sleep(0.1)


KINDS = {"docker": Docker, "java": Java, "embedded": Embedded}


def docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        info = subprocess.run(
            ["docker", "version", "--format={{.Server.Version}}"],
            capture_output=True,
            timeout=DOCKER_ANSWERS_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return info.returncode == 0


class SharedBroker:
    """The session's broker, started when it is first asked for, and what there is to tell about it afterwards."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get(ADDRESS)
        self._wanted = environ.get(KIND)
        self._broker: Broker | None = None
        self.notes: list[str] = []
        self.left_out: list[tuple[str, str]] = []
        if self._wanted and self._wanted not in KINDS:
            raise pytest.UsageError(f"{KIND}={self._wanted}: expected one of {', '.join(KINDS)}")

    def get(self) -> Broker:
        if self._broker is None:
            self._broker = self._open()
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
def pytest_collection_finish(session: pytest.Session) -> None:
    """Not left to the first test: fetching Kafka may take longer than a test is given."""
    wanted = any(item.get_closest_marker(marker) for item in session.items for marker in ("kafka", "real_kafka"))
    if wanted and not session.config.option.collectonly:
        try:
            session.config.stash[SHARED].get()
        except Unavailable as exc:
            raise pytest.UsageError(f"no broker for the tests: {exc}") from exc


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    return config.stash[SHARED].notes


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leaves out what the embedded broker cannot do: `@pytest.mark.real_kafka("transactions")` says what that is."""
    marker = item.get_closest_marker("real_kafka")
    if marker is None:
        return
    shared = item.config.stash[SHARED]
    if not shared.get().is_real:
        lacks = marker.args[0] if marker.args else "part of what this test is about"
        shared.left_out.append((item.nodeid, lacks))
        pytest.skip(f"the embedded broker has no {lacks}" if marker.args else f"the embedded broker lacks {lacks}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    shared = config.stash[SHARED]
    if shared.left_out:
        terminalreporter.section("left out")
        terminalreporter.line(shared.notes[-1])
        terminalreporter.line(
            f"{len(shared.left_out)} tests need Apache Kafka (Docker, or Java with Maven) and were left out:"
        )
        for name, lacks in shared.left_out:
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
        request.config.stash[SHARED].left_out.append((request.node.nodeid, "a broker that can be stopped"))
        pytest.skip(f"the {broker.kind} broker cannot be stopped and come back with its data")
    yield broker
    broker.start()


class NewTopicName(Protocol):
    def __call__(
        self, stem: str = ..., *, partitions: int = ..., configs: Mapping[str, str] | None = ...
    ) -> Awaitable[str]: ...


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
