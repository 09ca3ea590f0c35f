"""The page on records names every field, header and kind there is, and its programs read what we write."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import numpy as np
import orjson
import pytest

from streamer.core.decoding import Decoder
from streamer.core.events import EmbeddedEvent, Event, Message, Origin, Record, TopicPartition
from streamer.core.sketch import sketch
from streamer.core.vector_events import SOURCE_TIMESTAMP
from streamer.core.vectors import Space, Vector, unit_rows
from streamer.core.verdicts import Verdict, VerdictKind, encode_verdict
from streamer.errors import DeadLetterKind
from streamer.worker.encoding import Encoder
from tests.docs.markdown import ROOT, blocks, name_of

PAGE = ROOT / "docs" / "records.md"
TEXT = PAGE.read_text()
SPACE = Space(provider="onnx", model="m", dimensions=2)
VALUE = b'{"text": "hello", "the other fields": 1}'


def encoder(**options: Any) -> Encoder:
    return Encoder(space=SPACE, vectors_topic="v", dead_letters_topic="d", **({"include_text": True} | options))


def vector_event(**options: Any) -> Message:
    record = Record(TopicPartition("texts", 0), 41, b"order-17", VALUE, 1764000000000)
    event = Decoder().decode(record, Origin(record.tp, record.offset, 1))
    assert isinstance(event, Event)
    return encoder(**options).encode(EmbeddedEvent(event, unit_rows([[1.0, 2.0]])[0], 7, False, False), 0)[1]


def dead_letter(value: bytes, **options: Any) -> Message:
    record = Record(TopicPartition("texts", 0), 41, b"k", value, 0)
    letter = Decoder().decode(record, Origin(record.tp, 41, 1))
    assert not isinstance(letter, Event)
    return encoder(**options).encode(letter, 0)[1]


def json_blocks(page: Path, field: str) -> list[dict[str, Any]]:
    return [document for document in map(orjson.loads, blocks(page, "json")) if field in document]


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"], ids=name_of)
def test_json_has_the_fields_shown(page: Path) -> None:
    [vector], [verdict] = json_blocks(page, "vector"), json_blocks(page, "verdict")
    made = orjson.loads(vector_event().value or b"")
    assert (vector.keys(), vector["source"].keys()) == (made.keys(), made["source"].keys())
    example = Verdict(
        id="a", verdict="ordinary", similarity=None, duplicate_of=None, nearest=[], space="s", source=None
    )
    assert orjson.loads(encode_verdict(example, "t").value or b"").keys() == verdict.keys()


def test_the_text_event_shown_is_one() -> None:
    [shown] = [block for block in blocks(PAGE, "json") if '"vector"' not in block and '"verdict"' not in block]
    record = Record(TopicPartition("texts", 0), 0, None, shown.encode(), 0)
    event = Decoder(id_field="id").decode(record, Origin(record.tp, 0, 1))
    assert isinstance(event, Event)
    assert (event.id, event.text) == ("order-17", "The parcel arrived wet.")


def test_every_header_is_named() -> None:
    letters = [dead_letter(b"\xff"), *(dead_letter(b"\xff" * 1_000, max_bytes=most) for most in (600, 100))]
    names = {SOURCE_TIMESTAMP} | {
        name for message in [vector_event(), vector_event(format="binary"), *letters] for name, _ in message.headers
    }
    assert {name for name in names if f"`{name}`" not in TEXT} == set()
    assert set(re.findall(r"`(streamer-[a-z-]+)`", TEXT)) == names - {"content-type"}


@pytest.mark.parametrize("kind", get_args(DeadLetterKind))
def test_every_kind_of_dead_letter_is_explained(kind: str) -> None:
    assert f"\n| `{kind}` | " in TEXT
    assert f"\n| `{kind}` | " in (ROOT / "docs" / "troubleshooting.md").read_text()


@pytest.mark.parametrize("kind", get_args(VerdictKind))
def test_every_verdict_is_named(kind: str) -> None:
    assert f"`{kind}`" in TEXT


def binary_vector() -> bytes:
    vector: Vector = unit_rows(np.arange(1.0, 385.0)[None, :])[0]
    return vector.astype("<f4").tobytes()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("javac"), reason="no JDK")
def test_java_reads_a_binary_vector(tmp_path: Path) -> None:
    [code] = blocks(PAGE, "java")
    (tmp_path / "ReadVector.java").write_text(code)
    command = ["java", "-XX:TieredStopAtLevel=1", str(tmp_path / "ReadVector.java")]
    done = subprocess.run(command, input=binary_vector(), capture_output=True, timeout=60, check=False)
    assert done.stdout == b"384 1.0\n", done.stderr


@pytest.mark.skipif(not shutil.which("go"), reason="no Go")
def test_go_reads_a_binary_vector(tmp_path: Path) -> None:
    [code] = blocks(PAGE, "go")
    (tmp_path / "main.go").write_text(code)
    command = ["go", "run", str(tmp_path / "main.go")]
    done = subprocess.run(command, input=binary_vector(), capture_output=True, timeout=110, check=False)
    assert done.stdout == b"384 1.0\n", done.stderr


def test_the_recipe_of_the_sketch_makes_our_sketch() -> None:
    """As the page says it, and not as we compute it."""
    from zlib import crc32

    text = "Order 66: the parcel, the 2nd parcel, came wet. 日本 naïve"
    text += "".join(f" word{i} {i}th" for i in range(60))  # more of both than a sketch holds
    words = re.findall(
        r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+", text.lower()
    )
    hashes: dict[bool, set[int]] = {True: set(), False: set()}
    for word in set(words):
        hashes[word[0] in "0123456789"].add(crc32(word.encode()) % 65_535)
    kept, numbers = sorted(hashes[False])[:48], sorted(hashes[True])[:12]
    made = bytes([len(kept)]) + b"".join(hash.to_bytes(2, "little") for hash in [*kept, *numbers])
    assert made == sketch(text)
