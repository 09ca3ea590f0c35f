"""The pages of the repository, and what stands in them: blocks of code, code in the text, headings, links."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/**/*.md", "deploy/**/*.md", "examples/**/*.md", "streamer/**/*.md", "tests/**/*.md")
PAGES = sorted({page for pattern in PATTERNS for page in ROOT.glob(pattern)})

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_HEREDOC = re.compile(r"<<'?(\w+)'?\n.*?^\1$", re.DOTALL | re.MULTILINE)
_OPERATORS = set("|&;<>()")


class Block(NamedTuple):
    language: str
    code: str


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page, those in one language or all."""
    found = [Block(lang, textwrap.dedent(code)) for _, lang, code in _FENCE.findall(page.read_text())]
    return [block.code for block in found if block.language == language or not language]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def inline_code(page: Path) -> list[str]:
    """What stands between backticks in the text."""
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))]


def anchors(page: Path) -> set[str]:
    """The names that headings can be linked by, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Targets of links and pictures."""
    return re.findall(r"\]\(([^()\s]+)\)", prose(page))


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell text, as words. Here-documents, comments, redirections and variables' values are
    left as they come."""
    for line in _HEREDOC.sub("", text).replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= _OPERATORS:
                yield words
                words = []
            else:
                words.append(word)
        yield words


def streamer_commands(page: Path) -> list[list[str]]:
    """What follows `streamer` in the blocks of a page."""
    return _of_streamer(blocks(page, "sh"))


def streamer_commands_in_text(page: Path) -> list[list[str]]:
    """What follows `streamer` in the text, where a command may be named without its arguments."""
    return _of_streamer([code for code in inline_code(page) if code.startswith("streamer ")])


def _of_streamer(texts: Iterable[str]) -> list[list[str]]:
    found = [words for text in texts for words in commands(text)]
    return [words[1:] for words in found if words[:1] == ["streamer"] and words[1:]]
