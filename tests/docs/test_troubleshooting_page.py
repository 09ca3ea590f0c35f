"""The page on troubleshooting quotes the messages of the code, and leaves no family of them out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from streamer.cli import app
from streamer.commands import running
from tests.docs.markdown import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
TEXT = PAGE.read_text()
PACKAGE = ROOT / "streamer"
GAP = "\0"  # what an f-string puts in
ENDINGS = {"ConfigurationError", "Unreachable"}  # the errors that exit codes 2 and 3 stand for

# Modules whose errors of this kind no user of the command line meets, or which only pass on another's words.
ELSEWHERE = {
    "streamer/service_base.py": "raised to programs",
    "streamer/service.py": "raised to programs",
    "streamer/client/consuming.py": "raised to programs",
}


def template(node: ast.expr) -> str:
    """A string with gaps for what is known at run time only."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(value.value) if isinstance(value, ast.Constant) else GAP for value in node.values)
    return GAP


@cache
def templates() -> list[str]:
    """All strings of the package."""
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    found = [template(node) for node in nodes if isinstance(node, ast.JoinedStr)]
    return found + [str(n.value) for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def quoted(section: str) -> Iterator[str]:
    """The messages in the first column of a section's table."""
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, section
    for row in re.findall(r"^\| (`.+?`) \|", found[1], re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", row)


def fragments(message: str) -> list[str]:
    return [part for part in re.split(r"\.\.\.", message) if part.strip(" :;,")]


def says(text: str, message: str) -> bool:
    """Whether the message's parts stand in the text, in this order."""
    return bool(re.search(".*".join(map(re.escape, fragments(message))), text, re.DOTALL))


MESSAGES = ["Settings and arguments", "Out of reach", "Worker not ready", "Indexer not ready", "Log lines"]


@pytest.mark.parametrize("message", [message for section in MESSAGES for message in quoted(section)])
def test_messages_are_those_of_the_code(message: str) -> None:
    prefix, _, rest = message.partition(" ")
    if prefix == "provider" and rest.split(" ")[0] in ("down:", "rate", "blocked:", "spend"):
        message = rest  # put before the dispatcher's words
    assert fragments(message)
    assert any(says(text, message) for text in templates())


def raised(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ENDINGS and call.args:
            yield template(call.args[0])


def test_no_family_of_errors_is_left_out() -> None:
    page = [message for section in MESSAGES[:2] for message in quoted(section)]
    silent = set()
    for path in PACKAGE.rglob("*.py"):
        texts = [text for text in raised(path) if text.strip(GAP)]
        if texts and not any(says(text, message) for text in texts for message in page):
            silent.add(path.relative_to(ROOT).as_posix())
    assert silent - ELSEWHERE.keys() == set()


def test_every_exit_code_is_explained() -> None:
    codes = {value for name, value in vars(running).items() if name.startswith("EXIT_")}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)} == codes


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]
def test_every_command_is_mentioned(command: str) -> None:
    assert re.search(rf"`(streamer |make )?{command}\b", TEXT)
