"""The command line called as a function: what a process would print and exit with, but without its start."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import pytest
import typer.main

from streamer import cli
from tests.support.log_setup import logs_as_they_were
from tests.support.schemas import check_lines


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    stdout: str
    stderr: str


async def streamer(*arguments: str, stdin: str | bytes = "", **environ: str) -> Done:
    """Run a command in a thread, on a loop of its own, so that fakes can answer it from ours. What it prints with
    `--json` is held against the schema of the command."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = await anyio.to_thread.run_sync(_call, arguments, given, environ)
    if "--json" in arguments and done.stdout:
        check_lines(f"{arguments[0]}-line", done.stdout)
    return done


@functools.cache
def commands() -> Callable[[], object]:
    """What the app builds at each call: all commands with their options, which takes longer than most of them."""
    return typer.main.get_command(cli.app)


def _call(arguments: tuple[str, ...], stdin: bytes, environ: dict[str, str]) -> Done:
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with logs_as_they_were(), pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.setattr(cli, "app", commands())
        patch.setattr(sys, "argv", ["streamer", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)), "utf-8"))
        try:
            cli.main()
            code = 0
        except SystemExit as exc:
            code = int(exc.code or 0)
    out.seek(0)
    return Done(code, out.read(), err.getvalue())


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command finds no settings and leaves its cache."""
    for name in [name for name in os.environ if name.startswith("STREAMER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
