"""A BERT encoder at the processor's speed: more than twice the float32 graph's where there is VNNI.

`ranges`, measured once on sample texts, lie in a file beside the model; for all-MiniLM-L6-v2 in `minilm_ranges.npz`,
which `python -m tests.bench.calibration` made.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamer.adapters.providers.bert_weights import Bert, read_bert
from streamer.adapters.providers.int8_graph import INPUT_IDS, Range, Ranges, graph_of, products, range_of
from streamer.adapters.providers.onnx_encoder import Description, SentenceEncoder, failed
from streamer.adapters.providers.packing import alike
from streamer.core.vectors import Matrix
from streamer.errors import ConfigurationError

PRECISION: Final = "int8-static"
RANGES_FILE: Final = "int8_ranges.npz"
BUNDLED_RANGES: Final = Path(__file__).with_name("minilm_ranges.npz")
_TOKENS_PER_RUN: Final = 512
_SMOOTHED: Final = ("attention", "widening", "narrowing")  # what a layer norm or GELU gives has few, large components


class Int8Encoder(SentenceEncoder):
    """As SentenceEncoder, but `run` takes texts of one length; a vector does not depend on the others in its run."""

    groups = staticmethod(alike)

    def run(self, rows: Sequence[Sequence[int]]) -> Matrix:
        """Vectors of a few tokenised texts of the same length; the errors are those of SentenceEncoder."""
        try:
            vectors: Matrix = self._session.run(None, {INPUT_IDS: np.array(rows, np.int64)})[0]
        except Exception as exc:
            raise failed(self.model, exc) from exc
        return vectors


def int8_encoder(description: Description, session_of: Callable[[bytes], Any]) -> Int8Encoder:
    """The model of this description, computed in integers. Raises ConfigurationError."""
    if description.ranges is None:
        raise AssertionError("a model without ranges. This is a bug.")
    bert = read_bert(description.files[0])
    check_heads(bert, description)
    ranges = load_ranges(description.ranges, bert)
    graph = graph_of(bert, ranges, heads=description.heads, reads_first_token=description.reads_first_token)
    files = [*description.files, description.ranges]
    return Int8Encoder(replace(description, files=files), lambda _: session_of(graph))


def check_heads(bert: Bert, description: Description) -> None:
    """Raises ConfigurationError unless the width of the model divides into its heads."""
    heads = description.heads
    if not isinstance(heads, int) or heads < 1 or bert.width % heads:
        raise ConfigurationError(
            f"provider.model: {description.model} has vectors of {bert.width} components and {heads!r} attention heads "
            "(num_attention_heads in config.json)"
        )


def quantize_folder(
    encoder: SentenceEncoder, texts: Sequence[str], file: Path, session_of: Callable[[bytes], Any]
) -> None:
    """Measure what comes into the products of a model in float32 when these texts run, and write it to a file."""
    bert = read_bert(encoder.description.files[0])
    check_heads(bert, encoder.description)
    rows, _ = encoder.tokenize(texts)
    groups = [[rows[i] for i in group] for group in alike([len(row) for row in rows], _TOKENS_PER_RUN)]
    save_ranges(measured_ranges(bert, encoder.description.heads, groups, session_of), file)


def measured_ranges(
    bert: Bert, heads: int, groups: Sequence[Sequence[Sequence[int]]], session_of: Callable[[bytes], Any]
) -> Ranges:
    """What comes into each product when these texts run: groups of tokenised texts of the same length."""
    session = session_of(graph_of(bert, None, heads=heads))
    named = list(products(bert))
    lowest = [np.zeros(len(dense.weight), np.float32) for _, dense in named]
    highest = [np.zeros(len(dense.weight), np.float32) for _, dense in named]
    for rows in groups:
        _, *inputs = session.run(None, {INPUT_IDS: np.array(rows, np.int64)})
        for low, high, values in zip(lowest, highest, inputs, strict=True):
            np.minimum(low, values.min(axis=(0, 1)), out=low)
            np.maximum(high, values.max(axis=(0, 1)), out=high)
    return {
        name: range_of(low, high, dense, smooth=name.endswith(_SMOOTHED))
        for (name, dense), low, high in zip(named, lowest, highest, strict=True)
    }


def save_ranges(ranges: Ranges, file: Path) -> None:
    arrays: dict[str, Any] = {}
    for name, of_inputs in ranges.items():
        arrays[f"{name}.bounds"] = np.array([of_inputs.low, of_inputs.high], np.float32)
        if of_inputs.smoothing is not None:
            arrays[f"{name}.smoothing"] = of_inputs.smoothing.astype(np.float16)
    np.savez(file, **arrays)


def load_ranges(file: Path, bert: Bert) -> Ranges:
    """Raises ConfigurationError for a file that is not of `save_ranges`, or of another model."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {name: _range(arrays, name, len(dense.weight)) for name, dense in products(bert)}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise ConfigurationError(f"provider.model: {file} does not hold the ranges of this model: {exc}") from exc


def _range(arrays: Any, name: str, width: int) -> Range:
    low, high = map(float, arrays[f"{name}.bounds"])
    smoothing = arrays[f"{name}.smoothing"].astype(np.float32) if f"{name}.smoothing" in arrays else None
    if not low <= 0 <= high < np.inf or low == high or (smoothing is not None and smoothing.shape != (width,)):
        raise ValueError(f"{name} has the range {low:g} to {high:g} of {width} components")
    return Range(low, high, smoothing)
