"""What the folders of local models have in common: JSON files of settings, and a revision made of all that is read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from streamer.errors import ConfigurationError


def model_folder(model: str, *needed: str, otherwise: str = "") -> Path:
    """The folder that `provider.model` names, with the files `needed` in it.

    `otherwise`: the name that would have done without a folder, for the error. Raises ConfigurationError with the path
    when the folder or a file is not there.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if otherwise:
            raise ConfigurationError(f"provider.model = {model!r} is neither {otherwise!r} nor a folder")
        raise ConfigurationError(f"provider.model = {model!r} is not a folder")
    for name in needed:
        if not (folder / name).is_file():
            raise ConfigurationError(f"provider.model: the folder {folder} has no {name}")
    return folder


def json_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one if there is no file. Raises ConfigurationError for anything else."""
    try:
        found = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"provider.model: {file} cannot be read: {exc}") from exc
    if not isinstance(found, dict):
        raise ConfigurationError(f"provider.model: {file} holds no JSON object")
    return found


def revision(files: Sequence[Path]) -> str:
    """The first twelve hex digits of the SHA-256 of these files, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]
