"""Texts that no one wrote, made by rule of news texts: what a detector of anomalies should notice by their surface."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Sequence
from typing import Final

_KEYS: Final = ("qwertyuiop", "asdfghjkl;", "zxcvbnm,./")
_CYRILLIC: Final = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
_GREEK: Final = "αβγδεζηθικλμνξοπρστυφχψω"
_HAN: Final = "".join(map(chr, range(0x4E00, 0x4F00)))


def mash(text: str, rng: random.Random) -> str:
    """Hands on a keyboard: runs of keys that lie side by side."""
    words = []
    for word in text.split():
        row = rng.choice(_KEYS)
        words.append("".join(row[(rng.randrange(10) + rng.randrange(4)) % 10] for _ in word))
    return " ".join(words)


def blob(text: str, rng: random.Random) -> str:
    """Bytes in base64 or hexadecimal digits."""
    payload = rng.randbytes(len(text) // 2)
    return payload.hex() if rng.random() < 0.5 else base64.b64encode(payload).decode()


def markup(text: str, rng: random.Random) -> str:
    """What a scraper leaves of a page when it misses the text."""
    pieces = (
        '<div class="c{}"><span id="a{}">', "</span></div>", '<script>var x{}=[{}];</script>', "&nbsp;&gt;&gt;&nbsp;",
        '<img src="/i/{}.gif" width={} height=1>', "<td align=right bgcolor=#{}><br></td>", "{{#if item{}}}{{/if}}",
    )  # fmt: skip
    made = ""
    while len(made) < len(text):
        made += rng.choice(pieces).replace("{}", str(rng.randrange(1000)))
    return made


def shuffled(text: str, rng: random.Random) -> str:
    """The same characters in another order."""
    return "".join(rng.sample(text, len(text)))


def repeated(text: str, rng: random.Random) -> str:
    """One or two characters over and over."""
    return (rng.choice(text) + rng.choice(text)) * (len(text) // 2)


def mojibake(text: str, rng: random.Random) -> str:
    """Accented letters read with the wrong encoding, twice."""
    accents = str.maketrans("aeioucnsy", "àéîöüçñšÿ")
    return text.translate(accents).encode().decode("cp1252", "replace").encode().decode("cp1252", "replace")


def other_alphabet(text: str, rng: random.Random) -> str:
    """Words of the same lengths in Cyrillic, Greek or Chinese characters."""
    alphabet = rng.choice((_CYRILLIC, _GREEK, _HAN))
    return " ".join("".join(rng.choices(alphabet, k=len(word))) for word in text.split())


KINDS: Final[dict[str, Callable[[str, random.Random], str]]] = {
    "keyboard_mash": mash,
    "blob": blob,
    "markup": markup,
    "shuffled_characters": shuffled,
    "repeated_characters": repeated,
    "mojibake": mojibake,
    "other_alphabet": other_alphabet,
}


def broken(texts: Sequence[tuple[str, str]], seed: int) -> list[str]:
    """Texts, each with the kind of what happens to it."""
    rng = random.Random(seed)
    return [KINDS[kind](text, rng) for text, kind in texts]
