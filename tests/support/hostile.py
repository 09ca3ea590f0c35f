"""Random records as other people write them: legal, and hostile. The same for the same generator of numbers."""

from __future__ import annotations

import base64
import gzip
import random
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson

from tests.support.raw_headers import Header, Raw

FAR = 4_102_444_800_000  # 2100, in milliseconds
NOW = 1_764_000_000_000
WIDE = {"message.timestamp.after.max.ms": str(2**63 - 1), "max.message.bytes": "3000000"}  # a topic that takes them all

FATE = b"fate"
Fate: TypeAlias = Literal["vector", "dead letter", "no vector", "any"]


@dataclass(frozen=True, slots=True)
class Drawn:
    """`text`: of a well-formed record, None for others. `fate`: what has to become of it. `timestamp`: milliseconds,
    None for the time of sending."""

    key: bytes | None
    value: bytes | None
    headers: list[Header]
    timestamp: int | None
    fate: Fate
    text: str | None = None

    @property
    def raw(self) -> Raw:
        """With the fate in a header, for whoever finds the record in its topic."""
        return self.key, self.value, [*self.headers, (FATE, self.fate.encode())]


def draw(rng: random.Random, key: bytes, n: int) -> Drawn:
    """Well-formed records, which are three in five, get this key; others must not be mistaken for one."""
    timestamp = rng.choice([None, None, None, -1, 0, NOW, NOW * 1000, FAR, 2**62])
    if rng.random() < 0.6:
        text = f"parcel {n} of {rng.choice(['Oslo', 'Żary', '東京', '🚲'])} is {rng.choice(['late', 'lost', 'here'])}"
        return Drawn(key, _good(rng, text, n), _headers(rng), timestamp, "vector", text)
    others: list[bytes | None] = (
        [None, b"", rng.randbytes(8), b"k" * rng.randrange(5000), b"a\nb", b"\xed\xa0\xbd", b'{"id":{"x":7}}',
         "‮evil".encode(), b"\x00\x00\x00\x00\x05abc"]
    )  # fmt: skip
    other = rng.choice(others)
    if rng.random() < 0.2:
        return Drawn(other, b"a text", [*_headers(rng), (b"tr\xffce", b"x")], timestamp, "dead letter")
    if rng.random() < 0.05:
        mislabelled, type_ = rng.choice(_MISLABELLED)
        return Drawn(other, mislabelled, [(b"content-type", type_)], timestamp, "dead letter")
    value, fate = _odd(rng)
    return Drawn(other, value, _headers(rng), timestamp, fate)


def stranger(rng: random.Random, n: int) -> Raw:
    """A record of the vector topic that no worker has written."""
    vector = rng.choice([[1.0], "x", [[1]], None, [], [1e400], [True], {"0": 1}])
    document = orjson.dumps({"vector": vector, "space": "s", "dimensions": 1, "source": {"topic": 5}})
    far = document.replace(b'{"topic":5}', b'{"topic": "t", "partition": 0, "offset": 1e300}')
    value = rng.choice(
        [document, far, rng.randbytes(30), document[:-1] + b', "metadata": {"m": ' + nested(400) + b"}}", b"", b"{}"]
    )
    names: list[list[Header]] = [
        [(b"content-type", b"application/json")],
        [(b"tr\xffce", b"x")],
        [(b"streamer-source", b"t/0/99999999999999999999"), (b"streamer-dimensions", b"1e9")],
        [(b"content-type", b"application/octet-stream"), (b"streamer-space", None)],
        [],
    ]
    keys: list[bytes | None] = [b"x%d" % n, b"k" * 300_000 if n % 50 == 0 else b"y", rng.randbytes(6), None]
    return rng.choice(keys), value, rng.choice(names)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def _good(rng: random.Random, text: str, n: int) -> bytes:
    """A value with a text that can be embedded, in one of the ways of the world."""
    document = {"text": text, "stars": rng.randrange(5), "tags": [rng.random()] * rng.randrange(4)}
    plain = orjson.dumps(document)
    event = {"specversion": "1.0", "id": f"e{n}", "source": "/x", "type": "t"}
    return rng.choice(
        [
            plain,
            text.encode(),
            b"\xef\xbb\xbf" + plain,
            b"\x00\x00\x00\x00" + bytes([rng.randrange(256)]) + plain,
            plain[:-1] + b', "score": NaN, "most": 1e999, "big": 123456789012345678901234567890}',
            plain[:-1] + rb', "title": "cut \ud83d", "nul": "\u0000", "": 1}',
            plain[:-1] + b', "deep": ' + nested(rng.randrange(1, 120)) + b"}",
            b'{"text": "not this", ' + plain[1:],  # the last of two is meant
            b" \r\n" + plain + b"\n",
            orjson.dumps({**event, "data": document}),
            orjson.dumps({**event, "datacontenttype": "text/plain", "data": text}),
            orjson.dumps(text),
            orjson.dumps(plain.decode()),
            _connect("struct", document),
            _connect("string", rng.choice([text, plain.decode()])),
            _connect("bytes", base64.b64encode(rng.choice([text.encode(), plain])).decode()),
        ]
    )


def _connect(type_: str, payload: object) -> bytes:
    """An envelope of Kafka Connect."""
    return orjson.dumps({"schema": {"type": type_, "optional": True}, "payload": payload})


def _odd(rng: random.Random) -> tuple[bytes | None, Fate]:
    """A value that is no text, and what has to become of it."""
    values: list[tuple[bytes | None, Fate]] = [
        (None, "no vector"),
        (_connect("struct", None), "no vector"),
        (_connect("struct", [1]), "dead letter"),
        (_connect("object", {"text": "x"}), "dead letter"),
        (b"{'text': 'x'}", "dead letter"),
        (b"PK\x03\x04\x14\x00", "dead letter"),
        (b"", "dead letter"),
        (rng.randbytes(rng.randrange(1, 300)), "any"),
        (b'{"text": "x", "m": ' + nested(rng.randrange(129, 1500)) + b"}", "dead letter"),
        (b"\x00\x00\x00\x00\x07\x0corder\x24late", "dead letter"),
        ('"Late," she said'.encode("utf-16-le"), "dead letter"),
        ("late".encode("utf-16"), "dead letter"),
        ("late".encode("utf-32"), "dead letter"),
        (b'{"text": "\xe2\x80\x8b"}', "dead letter"),
        (b"{" + rng.randbytes(20), "dead letter"),
        (b"null", "dead letter"),
        (b'{"text": {"text": "x"}}', "dead letter"),
        (b'{"text": ["x"], "text ": "x"}', "dead letter"),
        (b'[{"text": "x"}]', "dead letter"),
        (gzip.compress(b"a text", mtime=0), "dead letter"),
        (b'{"text": "x"} {"text": "y"}', "dead letter"),
        (b'{"specversion":"1.0","id":"1","source":"/","type":"t","data_base64":"%%"}', "dead letter"),
    ]
    return rng.choice(values)


# With a key of any kind: what they say they are, they are not.
_MISLABELLED = [
    (b"late", b"application/json"),
    (b'{"text": "x"}', b"application/avro"),
    (b'{"text": "x"}', b"application/cloudevents-batch+json"),
    (b"\xff\xfe\xfd", b"text/plain; charset=utf-8"),
    (b"a text", b"\xff\xfe"),
    (b"\xd8", b"text/plain; charset=utf-16"),
]


def _headers(rng: random.Random) -> list[Header]:
    if rng.random() < 0.003:
        return [(b"trace", rng.randbytes(200_000)), (b"trace", rng.randbytes(200_000))]
    if rng.random() < 0.003:
        return [(b"h%d" % n, b"x") for n in range(1000)]
    names = [b"trace", b"", b"streamer-space", b"streamer-source", b"ce_id", "é".encode(), b"a\x00b", b"n" * 300]
    return [(rng.choice(names), None if rng.random() < 0.1 else rng.randbytes(rng.randrange(50)))
            for _ in range(rng.randrange(4))]  # fmt: skip
