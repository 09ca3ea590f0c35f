"""What the pages show is true: settings load, commands parse, Python runs, links lead somewhere."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main

from streamer.app.providers import contract_of
from streamer.cli import app
from streamer.settings import ENV_DELIMITER, ENV_PREFIX, Settings, load_settings
from tests.docs.markdown import (
    PAGES,
    ROOT,
    anchors,
    blocks,
    commands,
    inline_code,
    links,
    name_of,
    prose,
    streamer_commands,
    streamer_commands_in_text,
)
from tests.docs.programs import said_by

FILE = re.compile(r"\b(?:streamer|tests|deploy|docs|examples)/[\w/.-]+\.(?:py|md|toml|html|png|yml|yaml|json|env)\b")
COMMANDS: Any = typer.main.get_command(app)
SECTIONS = {name: getattr(Settings(), name) for name in Settings.model_fields}


def each(language: str, without: Collection[str] = ()) -> list[object]:
    return [
        pytest.param(code, id=f"{name_of(page)}-{number}")
        for page in PAGES
        if name_of(page) not in without
        for number, code in enumerate(blocks(page, language), 1)
    ]


def test_the_pages_are_found() -> None:
    found = {name_of(page) for page in PAGES}
    assert {"README.md", "docs/getting-started.md", "examples/README.md", "tests/faults/README.md"} <= found


@pytest.mark.parametrize("block", each("toml"))
def test_settings_load(block: str, tmp_path: Path) -> None:
    path = tmp_path / "streamer.toml"
    path.write_text(block)
    settings = load_settings(path, {"STREAMER_KAFKA__SASL_PASSWORD": "secret"})
    for section, values in tomllib.loads(block).items():
        for key, value in values.items():
            loaded = getattr(getattr(settings, section), key)
            if key == "fallback":
                loaded = [way.model_dump(exclude_unset=True) for way in loaded]
            assert (str(loaded) if isinstance(loaded, Path) else loaded) == value
    contract_of(settings).dimensions_for(settings.provider.dimensions)  # every model shown can be planned for


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page: Path) -> None:
    for words in streamer_commands(page):
        name, command, rest = resolved(words)
        if not {"--help", "--debug"} & set(rest):
            command.make_context(name, list(rest))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_options_and_settings_exist(page: Path) -> None:
    for words in [*streamer_commands(page), *streamer_commands_in_text(page)]:
        if words[0].startswith("-"):
            continue
        _, command, rest = resolved(words)
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--debug"}
        assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, words
        for assignment in (value for option, value in pairwise(rest) if option == "--set"):
            section, _, key = assignment.partition("=")[0].partition(".")
            assert section == "section" or key in type(SECTIONS[section]).model_fields, assignment


def resolved(words: list[str]) -> tuple[str, Any, list[str]]:
    """The name of a command, the command and what follows it."""
    name, command, rest = COMMANDS.resolve_command(COMMANDS.context_class(COMMANDS), list(words))
    while rest and rest[0] in getattr(command, "commands", ()):
        name, command, rest = f"{name} {rest[0]}", command.commands[rest[0]], rest[1:]
    return str(name), command, rest


def test_commands_are_seen() -> None:
    assert len(streamer_commands(ROOT / "README.md")) == 6
    assert ["search", "arrived broken"] in streamer_commands(ROOT / "README.md")


def test_every_command_of_streamer_is_in_the_readme() -> None:
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(COMMANDS.commands) <= named


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = [*blocks(page, "sh"), *(code for code in inline_code(page) if code.startswith("make "))]
    for words in (words for text in shown for words in commands(text)):
        if words[:1] == ["make"]:
            assert [word for word in words[1:] if "=" not in word and word not in targets] == [], words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_that_are_named_exist(page: Path) -> None:
    for code in inline_code(page):
        for section, key in re.findall(rf"^({'|'.join(SECTIONS)})\.([a-z_]+)\b(?!\()(?= ?=|$)", code):
            assert key in type(SECTIONS[section]).model_fields, code
    for section, key in re.findall(rf"{ENV_PREFIX}([A-Z]+){ENV_DELIMITER}([A-Z_]+)", page.read_text()):
        assert section == "SECTION" or key.lower() in type(SECTIONS[section.lower()]).model_fields, (section, key)


@pytest.mark.parametrize("code", each("python", without=["docs/python.md"]))  # which has a test of its own
def test_python_runs(code: str, tmp_path: Path) -> None:
    """What needs a broker or an indexer is only imported; the examples' tests run such programs."""
    needs_others = "streamer.client" in code
    if needs_others:
        tree = ast.parse(code)
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        code = ast.unparse(tree)
    assert said_by(code, tmp_path) or needs_others


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    assert not [name for name in set(FILE.findall(page.read_text())) if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_headings_are_unique_and_one_is_the_title(page: Path) -> None:
    headings = re.findall(r"^(#+) (.+)$", prose(page), re.MULTILINE)
    assert [level for level, _ in headings].count("#") == 1
    if page.name != "CHANGELOG.md":  # whose versions have the same parts
        assert len({heading for _, heading in headings}) == len(headings), "an anchor would lead to two places"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 12_288


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").glob("*.png"))
    assert pictures
    assert all(picture.stat().st_size < 200_000 for picture in pictures)
