"""A Python program of a page, run as if a person had started it in an empty folder."""

from __future__ import annotations

import io
import os
from contextlib import chdir, redirect_stdout
from pathlib import Path

import pytest

from streamer.settings import ENV_PREFIX


def said_by(code: str, folder: Path) -> str:
    """What it prints. In this process, because starting another takes longer than all that most programs do."""
    with pytest.MonkeyPatch.context() as patch, chdir(folder), redirect_stdout(io.StringIO()) as said:
        for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
            patch.delenv(name)
        exec(compile(code, "<page>", "exec", dont_inherit=True), {"__name__": "__main__"})
    return said.getvalue()
