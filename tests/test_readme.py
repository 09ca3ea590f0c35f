"""What the README shows is true: its settings load, its records are ours, its commands exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import orjson
import pytest
from typer.testing import CliRunner

from streamer.app.providers import contract_of
from streamer.cli import app
from streamer.core.decoding import Decoder
from streamer.core.encoding import Encoder
from streamer.core.events import EmbeddedEvent, Event, Origin, Record, TopicPartition
from streamer.core.vectors import Space, unit_rows
from streamer.core.verdicts import Verdict, encode_verdict
from streamer.errors import DeadLetterKind
from streamer.settings import load_settings

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("block", blocks("toml"))
def test_settings_load(block: str, tmp_path: Path) -> None:
    path = tmp_path / "streamer.toml"
    path.write_text(block)
    environ = {"STREAMER_KAFKA__SASL_PASSWORD": "secret"}
    settings = load_settings(path, environ)
    for section, values in tomllib.loads(block).items():
        for key, value in values.items():
            loaded = getattr(getattr(settings, section), key)
            if key == "fallback":
                loaded = [way.model_dump(exclude_unset=True) for way in loaded]
            assert (str(loaded) if isinstance(loaded, Path) else loaded) == value
    contract_of(settings).dimensions_for(settings.provider.dimensions)  # every model shown can be planned for


def test_the_service_example_runs(tmp_path: Path) -> None:
    [code] = [block for block in blocks("python") if "EmbeddingService" in block]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    environ["PYTHONPATH"] = str(README.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, timeout=60, check=False
    )
    assert done.stdout.decode().startswith("(2, 384) 0."), done.stderr.decode()
    assert done.stdout.decode().strip().endswith("The parcel arrived wet.")


def test_commands_exist() -> None:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    shown = [shlex.split(line) for line in lines if line.startswith("streamer ")]
    assert len(shown) > 5
    for words in shown:
        usage = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"})
        assert usage.exit_code == 0, words
        for option in [word for word in words[2:] if word.startswith("-")]:
            assert option in usage.output, f"{words}: {option}"


def test_records_have_the_fields_shown() -> None:
    vector, verdict = (orjson.loads(block) for block in blocks("json"))
    record = Record(
        TopicPartition("texts", 0), 41, b"order-17", b'{"text": "hello", "the other fields": 1}', 1764000000000
    )
    event = Decoder().decode(record, Origin(record.tp, record.offset, 1))
    assert isinstance(event, Event)
    encoder = Encoder(
        space=Space(provider="onnx", model="m", dimensions=2),
        vectors_topic="v",
        dead_letters_topic="d",
        include_text=True,
    )
    _, message = encoder.encode(EmbeddedEvent(event, unit_rows([[1.0, 2.0]])[0], 7, False, False), 0)
    assert orjson.loads(message.value or b"").keys() == vector.keys()
    assert vector["source"].keys() == orjson.loads(message.value or b"")["source"].keys()
    made = encode_verdict(
        Verdict(id="a", verdict="ordinary", similarity=None, duplicate_of=None, nearest=[], space="s", source=None), "t"
    )
    assert orjson.loads(made.value or b"").keys() == verdict.keys()


def test_dead_letter_kinds_are_those_of_the_code() -> None:
    [listed] = re.findall(r"Kinds: (.*?)\. ", TEXT, flags=re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == list(get_args(DeadLetterKind))


def test_dead_letter_headers_are_named() -> None:
    record = Record(TopicPartition("texts", 0), 41, b"k", b"\xff", 0)
    letter = Decoder().decode(record, Origin(record.tp, 41, 1))
    encoder = Encoder(space=Space(provider="p", model="m", dimensions=2), vectors_topic="v", dead_letters_topic="d")
    assert not isinstance(letter, Event)
    for name, _ in encoder.encode(letter, 0)[1].headers:
        assert f"`{name}`" in TEXT


@pytest.mark.parametrize("page", [README, README.parent / "tests" / "faults" / "README.md"], ids=["README", "faults"])
def test_files_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"\b(?:streamer|tests|deploy)/[\w/.-]+\.(?:py|md|toml|html)\b", page.read_text()))
    assert named
    assert not [name for name in named if not (README.parent / name).exists()]
