"""The first hour, run as the pages show it on a real Kafka: one shell, block after block.

Only three things differ: the environment is this one instead of a fresh one, Kafka is the one of the tests (which
tests/deploy/test_compose.py starts as the page does), and ports are free ones.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, blocks
from tests.support.brokers import Broker

PAGE = ROOT / "docs" / "getting-started.md"
README = ROOT / "README.md"
REPLACED = ("-m venv", "bin/activate", "pip install", "kafka.py")  # in lines that the test leaves out
REVIEWS = "id,body,stars\n" + "".join(f"r-{i},The kettle number {i} arrived broken.,{i}\n" for i in range(5))


def script(blocks: Sequence[str], bootstrap_servers: str, ports: tuple[int, int]) -> str:
    """The blocks as one. Each says where it begins, so that a failure tells which one it was."""
    lines = []
    for number, block in enumerate(blocks, 1):
        kept = [line for line in block.splitlines() if not any(mark in line for mark in REPLACED)]
        lines += [f"echo '--- block {number}' | tee /dev/stderr", *kept]
    text = "\n".join(lines).replace("localhost:9092", bootstrap_servers)
    for usual, free in zip(("localhost:8080", "localhost:8081"), ports, strict=True):
        text = text.replace(usual, f"localhost:{free}")
    return f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{text}\n"


def environment(folder: Path, ports: tuple[int, int]) -> dict[str, str]:
    """Commands named `streamer` and `python` that are ours; topics and a group that nobody else uses."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "streamer").write_text(f'#!/bin/sh\nexec {sys.executable} -m streamer "$@"\n')
    (programs / "streamer").chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    name = uuid.uuid4().hex[:12]
    topics = {kind: f"{kind}-{name}" for kind in ("input", "vectors", "verdicts", "dead_letters")}
    return environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "STREAMER_HTTP__PORT": str(ports[0]),
        "STREAMER_HTTP__WORKER_PORT": str(ports[1]),
        "STREAMER_KAFKA__GROUP_ID": name,
        **{f"STREAMER_TOPICS__{kind.upper()}": topic for kind, topic in topics.items()},
    }


def run(blocks: Sequence[str], broker: Broker, folder: Path, ports: tuple[int, int]) -> tuple[str, str]:
    """What the blocks print on both streams when they are run in a folder. Fails unless they succeed."""
    child = subprocess.Popen(
        ["bash", "-c", script(blocks, broker.bootstrap_servers, ports)],
        cwd=folder,
        env=environment(folder, ports),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=100)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    logs = "".join(log.read_text() for log in folder.rglob("*.log"))
    assert child.returncode == 0, f"{out}\n{err}\n{logs}"
    return out, err


@pytest.fixture
def ports(free_tcp_port_factory: Callable[[], int]) -> tuple[int, int]:
    return free_tcp_port_factory(), free_tcp_port_factory()


@pytest.mark.real_kafka("end offsets to be relied on")
def test_the_page_works_as_it_stands(broker: Broker, tmp_path: Path, ports: tuple[int, int]) -> None:
    """First hour B1."""
    out, err = run(blocks(PAGE, "sh"), broker, tmp_path, ports)
    assert "8 messages published" in err
    # Each try may print the worker's answer; the last one prints both.
    assert re.search(r'(\{"ready":true\}){2,}--- block', out), "the loop of the page ended with both of them ready"
    assert len(re.findall(r'\{"ready":true\}--- block', out)) == 1
    assert re.search(r"^r-[17]  near_duplicate  0\.\d+  like r-[17]$", out, re.MULTILINE)
    assert out.count("warming_up") == 7
    found = out.split("similarity", 1)[1].splitlines()[1:4]
    assert {"r-1", "r-5", "r-7"} == {line.split()[1] for line in found}
    assert "One of the cups was smashed" in "".join(found)
    assert '"id":"r-8"' in out, "what curl shows"
    logs = "".join(log.read_text() for log in (tmp_path / "try-streamer").glob("*.log"))
    assert "dead letter" not in logs
    assert "worker stopped" in logs
    assert "indexer stopped" in logs


@pytest.mark.real_kafka("end offsets to be relied on")
def test_the_readme_works_as_it_stands(broker: Broker, tmp_path: Path, ports: tuple[int, int]) -> None:
    """First hour B1."""
    (tmp_path / "reviews.csv").write_text(REVIEWS)
    own_data = [block for block in blocks(README, "sh") if "streamer" in block]
    out, err = run(own_data, broker, tmp_path, ports)
    assert "5 messages published" in err
    assert out.count("The kettle number") >= 5
    assert "arrived broken" in out.splitlines()[-1]


@pytest.mark.parametrize(("page", "count"), [(PAGE, 5), (README, 2)])
def test_only_what_is_said_above_is_left_out(page: Path, count: int) -> None:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert len([line for line in lines if any(mark in line for mark in REPLACED)]) == count
