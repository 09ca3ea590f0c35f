"""Cutting texts that are longer than a model reads."""

from __future__ import annotations

from collections.abc import Callable

NEAR_THE_END = 0.9  # of a window: from there on, whitespace is preferred as the place to cut


def typical_tokens(text: str) -> int:
    """A usual number of tokens, for want of a tokenizer: on the high side for prose, about right for code.

    Our figures: 3.5 bytes a token for ASCII (English prose has 4 to 5, code about 3), 2 for everything else.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    ascii_size = size if text.isascii() else len(text.encode("ascii", "ignore"))
    return int(ascii_size / 3.5 + (size - ascii_size) / 2) + 1


def cut(text: str, limit: int, count: Callable[[str], int]) -> str:
    """The longest beginning of `text` that `count` puts at `limit` tokens or fewer, or a little less to end at a space.

    `count` should grow with its text. At least one character is returned.
    """
    # Gallop, so that the work depends on what is kept and not on the megabytes that may follow.
    fits, too_long = 0, max(limit, 1)
    while count(text[:too_long]) <= limit:
        if too_long >= len(text):
            return text
        fits, too_long = too_long, 2 * too_long
    too_long = min(too_long, len(text))
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if count(text[:middle]) <= limit:
            fits = middle
        else:
            too_long = middle
    fits = max(fits, 1)
    if fits >= len(text):
        return text
    for end in range(fits, int(fits * NEAR_THE_END), -1):
        if text[end].isspace() or text[end - 1].isspace():
            return text[:end]
    return text[:fits]


def windows(text: str, limit: int, count: Callable[[str], int]) -> list[str]:
    """`text` in consecutive parts of at most `limit` tokens each; joined, they are the text again."""
    parts: list[str] = []
    while text:
        part = cut(text, limit, count)
        text = text[len(part) :]
        # A provider refuses a text of nothing but spaces, so those go with their neighbour.
        if parts and not (part.strip() and parts[-1].strip()):
            parts[-1] += part
        else:
            parts.append(part)
    return parts
