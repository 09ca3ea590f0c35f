"""File handles: counted before anything is opened, because a lack of them shows later as anything but that."""

from __future__ import annotations

import sys

from streamer.errors import ConfigurationError

FEWEST = 64  # a worker at work has about 30, and half as many again while connections are replaced


def check_file_handles() -> None:
    """Raises ConfigurationError where this process may open too few files and connections."""
    if sys.platform == "win32":
        return
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < FEWEST:
        raise ConfigurationError(
            f"{allowed} file handles are too few: at least {FEWEST} are needed, and two more for each input partition "
            "with delivery.guarantee = 'exactly-once'; raise the limit of this process (ulimit -n)"
        )
