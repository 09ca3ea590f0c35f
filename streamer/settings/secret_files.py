"""Variables whose values stand in files, which is how container platforms hand out secrets.

`NAME_FILE` names a file with the value of NAME. `STREAMER_SECRETS_DIR` names a folder of files that are called like the
variables, as a mounted Secret of Kubernetes is. What a variable itself says comes before the folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from streamer.errors import ConfigurationError

FOLDER_VARIABLE: Final = "STREAMER_SECRETS_DIR"
SUFFIX: Final = "_FILE"

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")  # not `..data`, by which Kubernetes exchanges all files at once


def with_folder(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment and what the folder of secrets adds. Empty files are left out: they stand for no secret.

    Raises ConfigurationError for a folder or a file that cannot be read.
    """
    folder = environ.get(FOLDER_VARIABLE)
    if not folder:
        return environ
    try:
        files = sorted(path for path in Path(folder).iterdir() if _VARIABLE.fullmatch(path.name) and path.is_file())
    except OSError as exc:
        raise ConfigurationError(f"STREAMER_SECRETS_DIR = {folder!r} cannot be read: {exc.strerror}") from exc
    found = {path.name: _content(path, FOLDER_VARIABLE) for path in files if path.name not in environ}
    return {**environ, **{name: value for name, value in found.items() if value}}


def value_of(environ: Mapping[str, str], name: str) -> str | None:
    """The value of a variable, or the content of the file that `NAME_FILE` names; None where neither is set.

    Raises ConfigurationError where both are set, and for a file that is empty or cannot be read.
    """
    value, file = environ.get(name), environ.get(f"{name}{SUFFIX}")
    if not file:
        return value or None
    if value is not None:
        raise ConfigurationError(f"{name} and {name}{SUFFIX} are both set: remove one of them")
    content = _content(Path(file), f"{name}{SUFFIX}")
    if not content:
        raise ConfigurationError(f"{name}{SUFFIX} = {file!r}: this file is empty")
    return content


def _content(path: Path, variable: str) -> str:
    """Without the line break that editors put at the end."""
    try:
        return path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        # What is wrong with the bytes would quote them.
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{variable}: the file {str(path)!r} cannot be read: {why}") from None
