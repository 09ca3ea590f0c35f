"""The version, which `pyproject.toml` alone defines: read from the installation when asked for."""

from __future__ import annotations


def version() -> str:
    """The installed distribution's version; "0+unknown" where the code runs from a folder that was never installed."""
    import importlib.metadata  # a few milliseconds that `import streamer` need not take

    try:
        return importlib.metadata.version("embedding-streamer")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
