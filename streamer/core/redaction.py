"""Text without the credentials that addresses in it carry."""

from __future__ import annotations

import re
from typing import Any, Final

_USER: Final = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/?#\"'<>]*@", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    r"([?&][\w.%-]*(?:key|token|secret|passw|pwd|sig|auth|credential)[\w.%-]*=)[^&\s\"'#<>]+", re.IGNORECASE
)
STARS: Final = "***"


def without_credentials(text: str) -> str:
    """User, password and secret parameters of every address are stars: `https://***@host/?key=***`."""
    if "://" in text:
        text = _USER.sub(rf"\1{STARS}@", text)
    return _PARAMETER.sub(rf"\1{STARS}", text) if "=" in text else text


def redacted(value: Any) -> Any:
    """The same for every string of a document."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {key: redacted(inner) for key, inner in value.items()}
    return [redacted(inner) for inner in value] if isinstance(value, list | tuple) else value
