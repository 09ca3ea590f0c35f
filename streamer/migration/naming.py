"""What the new side of a migration is called."""

from __future__ import annotations

import re
from typing import Final

_SPACE: Final = re.compile(r"\.[0-9a-f]{12}(?=$|\.snapshot$)")


def of_space(name: str, space: str) -> str:
    """A topic, a group or a file as the space has it: `vectors` becomes `vectors.3f9a04c1d2e7`, and a snapshot keeps
    its ending. The id of an earlier space gives way."""
    base = _SPACE.sub("", name)
    stem, dot, ending = base.rpartition(".")
    if dot and stem and ending == "snapshot":
        return f"{stem}.{space}.{ending}"
    return f"{base}.{space}"
