"""The plugin that runs tests in processes of one collection, in a session of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.distribution import MOST
from tests.support.side_by_side import pieces_of

ROOT = Path(__file__).parent.parent.parent
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pytest runs the tests as always")


def run(folder: Path, source: str, *args: str) -> tuple[int, str]:
    """Exit code and output."""
    (folder / "test_them.py").write_text(source)
    plugin = ["-p", "tests.support.side_by_side", "--side-by-side", "--rootdir", str(folder), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", "-p", "no:xdist", *plugin, *args, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


SOURCE = """
import os, pytest

def test_prints(capsys):
    print("captured")
    assert capsys.readouterr().out == "captured\\n"

@pytest.mark.parametrize("number", range(100))
def test_many(number):
    pass

def test_fails(tmp_path):
    print("said before")
    assert {tmp_path.name: 1} == {"other": 1}

@pytest.mark.skip(reason="for a reason")
def test_skipped():
    pass

@pytest.fixture
def broken():
    yield
    raise RuntimeError("at the end")

def test_leaves_a_mess(broken):
    pass
"""


def test_pieces_are_of_one_file_and_no_longer_than_asked_and_groups_stay_together() -> None:
    assert pieces_of([]) == []
    assert pieces_of(["a", "a", "a", "b", "c", "c"], 2) == [[0, 1], [2], [3], [4, 5]]
    assert pieces_of(["a", ("group",), "a", ("group",), "c", ("group",)], 2) == [[0, 2], [1, 3, 5], [4]]


PORTS = """
import pathlib, pytest
from tests.support.stages import free_port

@pytest.mark.parametrize("number", range(60))
def test_port(number):
    with open("ports", "a") as file:
        file.write(f"{free_port()}\\n")
"""


@pytest.mark.slow
@LINUX
def test_processes_choose_among_different_ports(tmp_path: Path) -> None:
    code, output = run(tmp_path, PORTS)
    assert code == 0, output
    ports = (tmp_path / "ports").read_text().split()
    assert len(ports) == len(set(ports)) == 60


@pytest.mark.slow
@LINUX
def test_results_are_told_as_by_pytest_itself(tmp_path: Path) -> None:
    code, output = run(tmp_path, SOURCE)
    assert code == 1, output
    assert "1 failed, 102 passed, 1 skipped, 1 error in" in output
    assert "said before" in output, "what a failed test printed"
    assert "assert {'test_fails0': 1} == {'other': 1}" in output
    assert "RuntimeError: at the end" in output


@pytest.mark.slow
@LINUX
def test_tests_are_in_several_processes_and_what_they_share_is_made_once_in_each(tmp_path: Path) -> None:
    source = """
import os, pytest
COLLECTED = os.getpid()

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    (path := tmp_path_factory.getbasetemp() / f"made {os.getpid()}").touch(exist_ok=False)
    yield
    path.rename(path.with_name(f"ended {os.getpid()}"))

@pytest.mark.parametrize("number", range(100))
def test_many(shared, number):
    assert os.getppid() == COLLECTED
"""
    (tmp_path / "tests").mkdir()
    code, output = run(tmp_path / "tests", source, "--basetemp", str(tmp_path / "base"))
    assert code == 0, output
    assert "100 passed in" in output
    made = [path.name.split()[0] for path in (tmp_path / "base").glob("* *")]
    assert set(made) == {"ended"}
    assert len(made) <= MOST


@pytest.mark.slow
@LINUX
def test_a_process_that_ends_in_a_test_fails_it_and_the_run(tmp_path: Path) -> None:
    source = """
import os, pytest

def test_before():
    pass

def test_ends():
    os._exit(0)

def test_after():
    pass
"""
    code, output = run(tmp_path, source)
    assert code == 1, output
    assert "1 failed, 1 passed in" in output
    assert "the process ended in this test, with exit code 0" in output
    assert "2 tests have no result, since their process ended" in output


@pytest.mark.slow
@LINUX
def test_after_the_first_failure_the_others_are_interrupted_where_that_is_asked_for(tmp_path: Path) -> None:
    source = """
import pytest, time

@pytest.fixture
def mess(tmp_path):
    made = tmp_path.parent.with_name(tmp_path.name)
    made.touch()
    yield
    made.unlink()

def test_fails():
    assert False

@pytest.mark.parametrize("number", range(100))
def test_waits(mess, number):
    time.sleep(1000)
"""
    (tmp_path / "tests").mkdir()
    (begun := tmp_path / "begun").mkdir()
    code, output = run(tmp_path / "tests", source, "-x", "--basetemp", str(begun / "base"))
    assert code == 1, output
    assert "stopping after 1 failures" in output
    assert "1 failed in" in output
    assert [path.name for path in begun.iterdir()] == ["base"], "what was begun was cleared up"
