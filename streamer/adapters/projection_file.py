"""A projection in a file: `.npz` as numpy writes it, readable anywhere, and holding nothing that could be run."""

from __future__ import annotations

import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from streamer.core.projection import Projection
from streamer.errors import ConfigurationError, unwritable


def save_projection(path: Path, projection: Projection) -> None:
    """Write it, in place of what was there. Raises ConfigurationError when it is the wrong place, and Unwritable
    when there is no room."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, axes=projection.axes, space=projection.space, kept=projection.kept)
        os.replace(part, path)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise unwritable(path, exc) from exc


def load_projection(path: Path) -> Projection:
    """Raises ConfigurationError when the file is missing or something else."""
    try:
        with path.open("rb") as file:
            # A file with one array, `.npy`, gives that array, which has no names.
            found = np.load(file, allow_pickle=False)
            axes, space, kept = found["axes"], str(found["space"]), float(found["kept"])
    except OSError as exc:
        raise ConfigurationError(f"provider.reduction = {path}: {exc.strerror or exc}") from exc
    except (ValueError, IndexError, KeyError, TypeError, EOFError, BadZipFile) as exc:
        raise ConfigurationError(f"provider.reduction = {path} is not a projection: {exc}") from exc
    if axes.dtype != np.float32 or axes.ndim != 2 or not np.isfinite(axes).all():
        raise ConfigurationError(f"provider.reduction = {path} is not a projection: its axes are {axes.dtype} numbers")
    return Projection(axes, space, kept)
