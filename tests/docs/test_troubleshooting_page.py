"""The page on troubleshooting quotes the messages of the code, and leaves no family of them out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from streamer.cli import app
from streamer.commands import running
from tests.docs.markdown import ROOT
from tests.support.read_once import nodes_of

pytestmark = pytest.mark.xdist_group("sources")

PAGE = ROOT / "docs" / "troubleshooting.md"
TEXT = PAGE.read_text()
PACKAGE = ROOT / "streamer"
GAP = "\0"  # what an f-string puts in
ENDINGS = {"ConfigurationError", "Unreachable", "Unwritable"}  # the errors that exit codes 2 and 3 stand for

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
    nodes = [node for path in PACKAGE.rglob("*.py") for node in nodes_of(path)]
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
    place = 0
    for part in fragments(message):
        if (found := text.find(part, place)) < 0:
            return False
        place = found + len(part)
    return True


MESSAGES = ["Settings and arguments", "Out of reach", "Worker not ready", "Indexer not ready", "Log lines"]


@pytest.mark.parametrize("section", MESSAGES)
def test_messages_are_those_of_the_code(section: str) -> None:
    messages = list(quoted(section))
    assert messages
    for message in messages:
        prefix, _, rest = message.partition(" ")
        # The gate puts this before the dispatcher's words.
        is_put_before = prefix == "provider" and rest.split(" ")[0] in ("down:", "rate", "blocked:", "spend")
        words = rest if is_put_before else message
        assert fragments(words), message
        assert any(says(text, words) for text in templates()), message


def raised(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
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


def test_every_command_is_mentioned() -> None:
    commands: Any = typer.main.get_command(app)
    assert not [name for name in commands.commands if not re.search(rf"`(streamer |make )?{name}\b", TEXT)]
