"""Disks that are full, and devices that fail, under what a command writes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import anyio
import pytest

from streamer import cli
from streamer.commands.running import report
from streamer.commands.writing import NamedFile, name_standard_streams
from tests.commands.in_process import commands, empty_folder, streamer  # noqa: F401  a fixture for all tests here

FULL = Path("/dev/full")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no file that is always full")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space is left on its disk; make room and run it again"),
        (errno.EDQUOT, "the quota of its disk is used up; make room and run it again"),
        (errno.EFBIG, "it may not grow any further, by a limit of the process or of its disk"),
        (errno.EIO, "its disk, or the terminal that it leads to, fails or is gone"),
    ],
    ids=errno.errorcode.get,
)
def test_why_nothing_more_can_be_written(number: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(ExceptionGroup("", [OSError(number, os.strerror(number), "a.npy")]), debug=False) == 3
    assert capsys.readouterr().err == f"streamer: a.npy cannot be written: {said}\n"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), OSError(errno.EACCES, "Permission denied", "a.npy")], ids=str
)
def test_what_is_of_no_known_file_or_for_another_reason_stays_unexpected(
    error: OSError, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not every system call that finds no room writes a file."""
    assert report(error, debug=False) == 1
    assert "unexpected" in capsys.readouterr().err


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> TextIO:
    file = open(os.open(FULL, os.O_WRONLY), "w", closefd=False)  # noqa: SIM115  closing it would fail
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(cli, "app", commands())
    return file


@pytest.mark.parametrize("arguments", [("--version",), ("config",), ("config", "--example"), ("topics", "--help")])
def test_a_command_whose_output_has_no_room_says_so(
    arguments: tuple[str, ...], full: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["streamer", *arguments])
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3
    assert capsys.readouterr().err.splitlines()[-1] == (
        "streamer: standard output cannot be written: no space is left on its disk; make room and run it again"
    )
    sys.stdout.flush()  # what is left at the exit is no second error
    os.close(full.fileno())


def test_standard_error_without_room_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(FULL, "w", closefd=True) as file:
        monkeypatch.setattr(sys, "stderr", file)
        name_standard_streams()
        assert sys.stderr is not file
        for _ in range(3):
            print("x" * 10_000, file=sys.stderr, flush=True)
        assert (sys.stderr.errors, sys.stderr.encoding) == (file.errors, file.encoding)
        monkeypatch.undo()


@pytest.mark.slow
def test_the_exit_codes_of_whole_processes(tmp_path: Path) -> None:
    """What Python itself flushes at the exit does not change them; unbuffered, it drops what there is no room for."""
    run = f"{sys.executable} -m streamer"
    script = (
        f"{run} --version > /dev/full; echo $? >> ended; {run} config -c nope 2> /dev/full; echo $? >> ended; "
        f"ulimit -f 1; PYTHONUNBUFFERED=1 {run} config --example > large; echo $? >> ended"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, timeout=100, check=True, env=environment, capture_output=True, text=True
    )
    assert (tmp_path / "ended").read_text().split() == ["3", "2", "3"]
    assert "standard output cannot be written: no space" in done.stderr
    assert "standard output cannot be written: it may not grow" in done.stderr


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.jsonl", "pca.npz"])
def test_a_file_of_embed_without_room_is_named_and_nothing_is_left_of_it(name: str) -> None:
    Path(f"{name}.part").symlink_to(FULL)
    Path("texts.txt").write_text("late\nbroken\nlovely\nas ordered\n")
    more = ("--fit-pca", "2") if name == "pca.npz" else ()
    done = anyio.run(streamer, "embed", "--file", "texts.txt", "--output", name, *more)
    assert done.code == 3
    said = f"streamer: {name} cannot be written: no space is left on its disk; make room and run it again"
    assert done.stderr.splitlines()[-1] == said
    assert not [path.name for path in Path().iterdir() if path.name.startswith(name)]


def test_ids_beside_a_file_without_room_are_named_too() -> None:
    Path("vectors.ids.jsonl.part").symlink_to(FULL)
    Path("texts.csv").write_text("id,text\n1,late\n2,broken\n")
    done = anyio.run(streamer, "embed", "-f", "texts.csv", "--id-field", "id", "--output", "vectors.npy")
    assert done.code == 3
    assert "vectors.ids.jsonl cannot be written: no space" in done.stderr
    assert not list(Path().glob("vectors*"))


def test_a_file_names_itself_in_every_error() -> None:
    with NamedFile(FULL, "the output") as file, pytest.raises(OSError, match=r"No space left.*'the output'"):
        file.write(b"x")
