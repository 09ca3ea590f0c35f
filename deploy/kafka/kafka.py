#!/usr/bin/env python3
"""A real Apache Kafka on this machine without Docker: one node, broker and controller in one process.

    python deploy/kafka/kafka.py start                      in the foreground, until Ctrl-C or SIGTERM
    python deploy/kafka/kafka.py start --detach             in the background; prints its address when it is ready
    python deploy/kafka/kafka.py stop                       ends what --detach started

Needs Java 17 or newer, and Maven once, to fetch Kafka's jars (44 MB). Uses the standard library alone, so that any
Python 3.11 runs it. For development and tests: loopback only, no authentication, one copy of everything.
"""

# ruff: noqa: S603, T201 - a command-line tool that runs programs and picks ports

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
JAVA_AT_LEAST = 17
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
FETCH_TIMEOUT = 900.0

# One node holds every internal topic, so one copy and few partitions. Groups form at once instead of after three
# seconds. A node that crashed may not come back before its session is over, hence a short one.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
}

# Only the quick compiler: it halves the start.
JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")

# Linux takes Kafka along when its starter dies without a chance to stop it. The request has to be made in the child,
# and a `preexec_fn` may deadlock where there are threads, so a tiny interpreter asks and then becomes Java.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.getppid() == int(sys.argv[1]) or os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class KafkaError(Exception):
    """Kafka cannot be started or stopped; the text says what is missing or what it said last."""


class Kafka:
    """One node, its data in the folder `data` (None: a temporary one, removed by `close`).

    `start`, `stop` and `kill` may follow one another any number of times: address and data stay the same. `port` 0
    takes a free one, or the one that the data folder was used with. `advertised_port`: what clients are told to connect
    to instead of `port`, for a proxy in between; `direct_servers` goes around that proxy, and so does Kafka's talk with
    itself. `settings` override or add broker properties.
    """

    def __init__(
        self,
        data: Path | None = None,
        port: int = 0,
        *,
        advertised_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._temporary = data is None
        self.data = Path(tempfile.mkdtemp(prefix="kafka-")) if data is None else data.resolve()
        self.data.mkdir(parents=True, exist_ok=True)
        remembered = self._remembered_ports()
        taken = free_ports(3)
        self.port = port or remembered.get("CLIENT") or taken[0]
        self._internal_port = remembered.get("INTERNAL") or taken[1]
        self._controller_port = remembered.get("CONTROLLER") or taken[2]
        self._advertised_port = advertised_port or self.port
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel's "parent" is the thread that starts a child, so that thread has to live as long as we do.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="kafka")

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: the proxy's address if one is advertised."""
        return f"{HOST}:{self._advertised_port}"

    @property
    def direct_servers(self) -> str:
        """The same broker, never through a proxy."""
        return f"{HOST}:{self._internal_port}"

    @property
    def log(self) -> Path:
        return self.data / "kafka.log"

    @property
    def pid_file(self) -> Path:
        return self.data / "kafka.pid"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, timeout: float = START_TIMEOUT, detach: bool = False) -> None:
        """Returns when Kafka answers. `detach`: it survives us and ends by `stop_detached`."""
        if self.running or running_pid(self.data):
            raise KafkaError(f"Kafka runs already on the data in {self.data}")
        java, libs = find_java(), fetch_jars()
        cluster = self._format(java, libs)
        command = [
            java,
            *JVM,
            f"-Dstreamer.kafka.data={self.data}",
            *self._logging(),
            "-cp",
            f"{libs}/*",
            "kafka.Kafka",
        ]
        command.append(str(self._properties()))
        if sys.platform == "linux" and not detach:
            command = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *command]
        with self.log.open("ab") as log:
            # A session of its own, so that Ctrl-C reaches whoever uses Kafka first.
            self._process = self._starter.submit(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data,
                start_new_session=True,
            ).result()
        self.pid_file.write_text(str(self._process.pid))
        try:
            self._wait_until_ready(cluster.encode(), timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self, *, timeout: float = STOP_TIMEOUT) -> None:
        """An orderly stop, or the end by force when that takes too long. Without effect if it does not run."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
            self.kill()

    def kill(self) -> None:
        """A crash. Data that was acknowledged is there again after `start`: the operating system goes on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.pid_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Stops it and removes a temporary data folder."""
        self.stop()
        self._starter.shutdown()
        if self._temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait(self) -> int:
        """Waits for Kafka to end; its exit status."""
        if self._process is None:
            raise KafkaError("Kafka does not run")
        return self._process.wait()

    def _wait_until_ready(self, cluster: bytes, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not ready(self._internal_port, cluster):
            if not self.running:
                raise KafkaError(f"Kafka died at its start: {last_words(self.log)}")
            if time.monotonic() > deadline:
                raise KafkaError(f"Kafka is not ready after {timeout:g} s: {last_words(self.log)}")
            time.sleep(0.05)

    def _remembered_ports(self) -> dict[str, int]:
        properties = self.data / "server.properties"
        text = properties.read_text() if properties.exists() else ""
        listeners = re.search(r"^listeners=(.*)$", text, re.MULTILINE)
        return {name: int(port) for name, port in re.findall(r"(\w+)://[^:]+:(\d+)", listeners[1] if listeners else "")}

    def _properties(self) -> Path:
        listeners = {"CLIENT": self.port, "INTERNAL": self._internal_port, "CONTROLLER": self._controller_port}
        advertised = {"CLIENT": self._advertised_port, "INTERNAL": self._internal_port}
        settings = {
            **SETTINGS,
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items()),
            "advertised.listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in advertised.items()),
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "log.dirs": str(self.data / "logs"),
            **self._settings,
        }
        path = self.data / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def _format(self, java: str, libs: Path) -> str:
        """Prepares an empty data folder; the id of the cluster whose data it holds."""
        meta = self.data / "logs" / "meta.properties"
        properties = self._properties()
        if not meta.exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            tool = [
                java,
                "-Xmx128m",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                *self._logging(),
                "-cp",
                f"{libs}/*",
            ]
            tool += ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(properties)]
            done = subprocess.run(tool, capture_output=True, text=True, timeout=START_TIMEOUT, check=False)
            if done.returncode:
                lines = (done.stderr + done.stdout).strip().splitlines()
                raise KafkaError(f"Kafka's data folder cannot be prepared: {lines[-1] if lines else done.returncode}")
        found = re.search(r"^cluster\.id=(.*)$", meta.read_text(), re.MULTILINE)
        if not found:
            raise KafkaError(f"{meta} names no cluster.id")
        return found[1].strip()

    def _logging(self) -> list[str]:
        prefix = "-Dorg.slf4j.simpleLogger"
        return [
            f"{prefix}.{key}" for key in ("defaultLogLevel=warn", "showDateTime=true", "dateTimeFormat=HH:mm:ss.SSS")
        ]


def find_java() -> str:
    """The Java to use: JAVA_HOME's, else the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java") if home else "java")
    if not java:
        raise KafkaError(f"Java is missing: install a JRE {JAVA_AT_LEAST} or newer, or set JAVA_HOME to one")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if not version or int(version[1]) < JAVA_AT_LEAST:
        found = f"{java} is version {version[1]}" if version else f"{java} does not tell its version"
        raise KafkaError(f"Java is too old: Kafka needs {JAVA_AT_LEAST} or newer, {found}")
    return java


def jars() -> Path:
    """Where Kafka's jars belong: one folder for each state of pom.xml, so that another version is fetched anew."""
    return HERE / "libs" / hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()[:12]


def fetch_jars() -> Path:
    """The folder of Kafka's jars, filled through Maven on the first use."""
    libs = jars()
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if not maven:
        raise KafkaError("Maven is missing: install `mvn`, which fetches Kafka's jars once")
    libs.parent.mkdir(exist_ok=True)
    # Named only when complete: a broken fetch leaves nothing that looks whole. One at a time: Maven's own store of what
    # it fetched is not made for two.
    with (
        (HERE / "pom.xml").open() as pom,
        tempfile.TemporaryDirectory(dir=libs.parent, prefix=".partial-") as scratch,
    ):
        fcntl.flock(pom, fcntl.LOCK_EX)
        if libs.is_dir():  # by whom we have waited for
            return libs
        print("Fetching Kafka's jars through Maven (once, 44 MB)", file=sys.stderr)
        partial = Path(scratch) / "jars"
        command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={partial}", "-DincludeScope=runtime"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT, check=False)
        if done.returncode:
            errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
            raise KafkaError(f"Maven cannot fetch Kafka's jars: {errors[0] if errors else done.stderr.strip()}")
        partial.rename(libs)
    return libs


def shuffled(ports: range) -> Iterator[int]:
    """Round and round, so that a port comes again only after all others did."""
    return itertools.cycle(random.sample(ports, len(ports)))


PORTS = range(20000, 32000)  # below those given to outgoing connections, which could take ours during a restart
candidates = shuffled(PORTS)


def free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in itertools.islice(candidates, 500):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise KafkaError(f"no free port from {PORTS.start} to {PORTS.stop - 1}")


def ready(port: int, cluster: bytes) -> bool:
    """Whether this cluster's broker answers and takes part in it, which is some time after the port listens."""
    # Metadata (key 3) in version 2, the first that names the cluster; correlation id 1, no client id, no topics.
    request = struct.pack(">hhihi", 3, 2, 1, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection, connection.makefile("rb") as stream:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (length,) = struct.unpack(">i", stream.read(4))
            answer = stream.read(min(length, 65536))
    except (OSError, struct.error):
        return False
    _, brokers = struct.unpack_from(">ii", answer)
    return bool(brokers > 0 and cluster in answer)


def last_words(log: Path) -> str:
    """The last line that Kafka logged as an error, else the last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    errors = [line for line in lines if " ERROR " in line or line.startswith(("Exception", "Error", "Caused by"))]
    return (errors or lines or ["nothing was logged"])[-1].strip() + f" (see {log})"


def running_pid(data: Path) -> int | None:
    """The process that runs on the data, if one does; a number left by a crash may be another program's by now."""
    try:
        pid = int((data / "kafka.pid").read_text())
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc/self").exists() else None
    except (OSError, ValueError):
        return None
    return pid if command is None or f"-Dstreamer.kafka.data={data}".encode() in command else None


def stop_detached(data: Path, *, timeout: float = STOP_TIMEOUT) -> bool:
    """Ends the Kafka that runs on the data; False if none does."""
    pid = running_pid(data)
    if pid is None:
        return False
    for how, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 5.0)):
        os.kill(pid, how)
        deadline = time.monotonic() + patience
        while running_pid(data) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not running_pid(data):
            (data / "kafka.pid").unlink(missing_ok=True)
            return True
    raise KafkaError(f"process {pid} does not end")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start one node")
    start.add_argument("--port", type=int, default=9092, help="0: a free one (default: 9092)")
    start.add_argument("--advertised-port", type=int, help="tell clients to connect here: the port of a proxy")
    start.add_argument("--data", type=Path, help="keep the data here (default: fresh, removed at the end)")
    start.add_argument(
        "--detach", action="store_true", help=f"run in the background (data: {HERE / 'target' / 'data'})"
    )
    start.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a broker property")
    stop = commands.add_parser("stop", help="stop the one started with --detach")
    stop.add_argument("--data", type=Path, default=HERE / "target" / "data")
    args = parser.parse_args()
    try:
        if args.command == "stop":
            if not stop_detached(args.data.resolve()):
                raise KafkaError(f"no Kafka runs on the data in {args.data}")
            return 0
        data = args.data or (HERE / "target" / "data" if args.detach else None)
        node = Kafka(
            data,
            args.port,
            advertised_port=args.advertised_port,
            settings=dict(setting.split("=", 1) for setting in args.set),
        )
        if args.detach:
            node.start(detach=True)
            print(node.bootstrap_servers)
            return 0
        # Ctrl-C and SIGTERM end `wait`; what follows stops Kafka in order.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with node:
            print(node.bootstrap_servers, flush=True)
            node.wait()
            raise KafkaError(f"Kafka stopped by itself: {last_words(node.log)}")
    except KeyboardInterrupt:
        return 0
    except KafkaError as exc:
        print(f"kafka.py: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
