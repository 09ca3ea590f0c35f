"""A broker that asks who is there: wrong credentials, right ones, and ones that are withdrawn while a worker runs.

It is Apache Kafka of our own (Java), whatever broker the other tests use: users come and go, and it drops connections
whose credentials have not been shown for a second.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import confluent_kafka.admin
import httpx
import pytest

from tests.support.brokers import Broker, kafka
from tests.support.processes import streamer
from tests.support.stages import Stage
from tests.support.topics import read_all, read_until
from tests.support.vendors.openai import FakeOpenAI

pytestmark = [pytest.mark.anyio, pytest.mark.own_broker, pytest.mark.xdist_group("guarded")]

admin: Any = confluent_kafka.admin  # its types do not name all that it exports

USER, PASSWORD = "worker", "right-and-secret"
MECHANISM = "listener.name.client.scram-sha-256"
SETTINGS = {
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-256",
    f"{MECHANISM}.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    f"{MECHANISM}.connections.max.reauth.ms": "1000",
}


class Guarded:
    """`bootstrap_servers` asks for credentials, `direct_servers` does not."""

    def __init__(self, node: Any) -> None:
        self.bootstrap_servers: str = node.bootstrap_servers
        self.direct_servers: str = node.direct_servers
        self._admin = admin.AdminClient({"bootstrap.servers": self.direct_servers})

    def admit(self) -> None:
        credentials = admin.ScramCredentialInfo(admin.ScramMechanism.SCRAM_SHA_256, 4096)
        self._alter(admin.UserScramCredentialUpsertion(USER, credentials, PASSWORD.encode()))

    def expel(self) -> None:
        self._alter(admin.UserScramCredentialDeletion(USER, admin.ScramMechanism.SCRAM_SHA_256))

    def _alter(self, change: Any) -> None:
        for done in self._admin.alter_user_scram_credentials([change]).values():
            done.result(timeout=20)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    node = kafka.Kafka(settings=SETTINGS)
    try:
        node.start()
    except (kafka.KafkaError, OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"needs Apache Kafka with users of its own: {exc}")
    else:
        broker = Guarded(node)
        broker.admit()
        yield broker
    finally:
        node.close()


@pytest.fixture
def stage(guarded: Guarded, tmp_path: Path) -> Stage:
    texts, vectors, verdicts, dead = (f"{name}-{tmp_path.name}" for name in ("texts", "vectors", "verdicts", "dead"))
    made = Stage(Broker(guarded.direct_servers), texts, vectors, verdicts, dead, tmp_path)
    made.settings |= {
        "kafka.bootstrap_servers": guarded.bootstrap_servers,
        "kafka.security_protocol": "SASL_PLAINTEXT",
        "kafka.sasl_mechanism": "SCRAM-SHA-256",
        "kafka.sasl_username": USER,
        "kafka.sasl_password": PASSWORD,
        "kafka.session_timeout_ms": 6000,
    }
    return made


async def test_a_wrong_password_ends_it_with_one_line_that_does_not_tell_it(stage: Stage) -> None:
    async with FakeOpenAI(key="sk-test") as service:
        stage.with_fake_openai(service).settings |= {"kafka.sasl_password": "wrong-and-secret"}
        for command in ("run", "index"):
            with streamer(command, stage.settings) as process:
                assert await process.wait() == 3, process.stderr
                (line,) = [line for line in process.stderr.splitlines() if line.startswith("streamer: ")]
                assert re.search(r"Kafka at 127\.0\.0\.1:\d+ rejected user 'worker': .*uthentication", line), line
                assert "Traceback" not in process.stderr
                assert "secret" not in process.stderr


async def test_the_right_password_passes_every_check(stage: Stage) -> None:
    async with FakeOpenAI(key="sk-test") as service:
        with streamer("topics", stage.settings, "--create") as made:
            assert await made.wait() == 0, made.stderr
        with streamer("check", stage.with_fake_openai(service).settings) as process:
            assert await process.wait() == 0, process.stderr
            assert process.process.stdout is not None
            said = process.process.stdout.read().decode() + process.stderr
    assert "FAILED" not in said
    assert "ok      topics" in said
    assert PASSWORD not in said


async def test_withdrawn_credentials_are_told_and_cost_nothing(stage: Stage, guarded: Guarded) -> None:
    async with FakeOpenAI(key="sk-test") as service:
        service.latency = lambda number: 0.05
        stage.with_fake_openai(service)
        with streamer("topics", stage.settings, "--create") as made:
            assert await made.wait() == 0, made.stderr
        with streamer("run", stage.settings) as worker:
            await worker.ready(stage.port)
            await stage.produce([(b"a%d" % n, b"text number %d" % n) for n in range(200)])
            await read_until(guarded.direct_servers, stage.vectors, lambda records: len(records) >= 200)
            await anyio.to_thread.run_sync(guarded.expel)
            try:
                await stage.produce([(b"b%d" % n, b"text number %d" % n) for n in range(200)])
                assert "uthentication" in await why_not_ready(stage)
            finally:
                await anyio.to_thread.run_sync(guarded.admit)
            await read_until(guarded.direct_servers, stage.vectors, lambda records: len(records) >= 400)
            await worker.ready(stage.port)
            worker.send_signal(signal.SIGTERM)
            assert await worker.wait() == 0, worker.stderr
            assert PASSWORD not in worker.stderr
        vectors = await read_all(guarded.direct_servers, stage.vectors)
        wanted = [b"%s%d" % (kind, n) for kind in (b"a", b"b") for n in range(200)]
        assert Counter(record.key for record in vectors) == Counter(wanted)
        assert await stage.committed() == stage.ends


async def why_not_ready(stage: Stage) -> str:
    async with httpx.AsyncClient() as client:
        with anyio.fail_after(60):
            while True:
                answer = await client.get(f"http://127.0.0.1:{stage.port}/readyz")
                if answer.status_code == 503:
                    return str(answer.json()["error"])
                await anyio.sleep(0.1)
