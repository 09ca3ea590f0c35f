"""The brokers that tests can run against, and how each is started here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Awaitable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Protocol

from anyio.from_thread import start_blocking_portal

from streamer.adapters.broker import EmbeddedBroker
from streamer.errors import StreamerError
from tests.support.distribution import ports_of

NOBODY = "127.0.0.1:1"  # a port where nothing listens
IMAGE = "apache/kafka:4.3.1"
DOCKER_ANSWERS_WITHIN = 3.0
DOCKER_STARTS_WITHIN = 300.0  # it may have to fetch the image


def load_kafka() -> Any:
    """`deploy/kafka/kafka.py`, which is a script for people and belongs to no package."""
    path = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka.py"
    spec = importlib.util.spec_from_file_location("deploy_kafka", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kafka = load_kafka()
# The processes of pytest-xdist choose among different ports: one that is chosen is free until its program starts.
kafka.candidates = kafka.shuffled(ports_of(os.environ.get("PYTEST_XDIST_WORKER", "gw0"), kafka.PORTS))


class Unavailable(Exception):
    """This kind of broker cannot be had here, and why."""


class Broker:
    """A running broker.

    `behind_proxy`: the port of its second listener, and the one that it tells clients of that listener to connect to,
    where a test may put a proxy; None if there is no such listener. Where `can_restart`, stopping and starting
    keep address and data; these calls block and belong in a thread.
    """

    kind: ClassVar[str] = "address"
    can_restart: ClassVar[bool] = False

    def __init__(self, bootstrap_servers: str, behind_proxy: tuple[int, int] | None = None) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.behind_proxy = behind_proxy

    @property
    def is_real(self) -> bool:
        """Apache Kafka, hence with idempotent producers and transactions."""
        return self.kind != "embedded"

    def start(self) -> None:
        raise NotImplementedError(f"can_restart is false: a broker of kind {self.kind} is not ours to stop")

    def stop(self) -> None:
        raise NotImplementedError(f"can_restart is false: a broker of kind {self.kind} is not ours to stop")

    def kill(self) -> None:
        raise NotImplementedError(f"can_restart is false: a broker of kind {self.kind} is not ours to stop")

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
        (proxied,) = kafka.free_ports(1)
        self.node = kafka.Kafka(advertised_port=proxied)
        try:
            self.start()
        except (kafka.KafkaError, OSError, subprocess.SubprocessError) as exc:
            self.node.close()
            raise Unavailable(str(exc)) from exc
        super().__init__(self.node.direct_servers, (self.node.port, proxied))

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
        self._port, behind, proxied = kafka.free_ports(3)
        self._name = f"streamer-test-{uuid.uuid4().hex[:8]}"
        # One given setting makes the image forget its own, so all of them are given.
        settings = {
            **kafka.SETTINGS,
            "listeners": "CLIENT://:9092,INTERNAL://:9094,DIRECT://:9095,CONTROLLER://:9093",
            "advertised.listeners": f"CLIENT://127.0.0.1:{proxied},INTERNAL://localhost:9094,"
            f"DIRECT://127.0.0.1:{self._port}",
            "listener.security.protocol.map": f"{kafka.SETTINGS['listener.security.protocol.map']},DIRECT:PLAINTEXT",
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
        super().__init__(f"127.0.0.1:{self._port}", (behind, proxied))

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


class NewTopicName(Protocol):
    def __call__(
        self, stem: str = ..., *, partitions: int = ..., configs: Mapping[str, str] | None = ...
    ) -> Awaitable[str]: ...
