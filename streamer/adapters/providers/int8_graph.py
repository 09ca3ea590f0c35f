"""A BERT encoder computed in integers: an ONNX graph of onnxruntime's fused operators, made from the weights.

Each product is one of 8-bit integers: inputs with one range each, which was measured on sample texts (static
quantisation), weights with one range a column. As nothing is measured while it runs, a text's vector does not depend on
what else is in its run; and texts of one length run together, so that there is no padding either.

Weights take 7 bits. Processors without VNNI add pairs of products in 16 bits, which two of 255 * 64 just fit: all
processors get the same integers (https://github.com/microsoft/onnxruntime/issues/6004 shows what happens otherwise).

A few components of a layer norm's output are ten times as large as the rest. Their share is moved into the weights
before rounding (SmoothQuant, https://arxiv.org/abs/2211.10438).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamer.adapters.providers.bert_weights import Bert, Dense, Norm
from streamer.core.vectors import Vector

INPUT_IDS: Final = "input_ids"
PRODUCTS: Final = ("attention", "projection", "widening", "narrowing")  # of a layer, in the order in which they run

_FUSED = "com.microsoft"
_LARGEST_WEIGHT = 63
_LEVELS = 255
_SMOOTHING = 0.8  # how much of a component's size goes into the weights; of 0.5 to 0.9 the best on four kinds of text
_LEAST = 1e-5


@dataclass(frozen=True, slots=True)
class Range:
    """What comes into one product. `low` <= 0 <= `high`, after each component was divided by its `smoothing`."""

    low: float
    high: float
    smoothing: Vector | None = None


Ranges: TypeAlias = Mapping[str, Range]  # by "0.attention", "0.projection", ...


def range_of(lowest: Vector, highest: Vector, dense: Dense, *, smooth: bool) -> Range:
    """The range of a product's inputs, of which the lowest and the highest value of each component are known."""
    smoothing = None
    if smooth:
        sizes = np.maximum(np.maximum(np.abs(lowest), np.abs(highest)), _LEAST)
        weights = np.maximum(np.abs(dense.weight).max(axis=1), _LEAST)
        logs = _SMOOTHING * np.log(sizes) - (1 - _SMOOTHING) * np.log(weights)
        smoothing = np.exp(logs - logs.mean()).astype(np.float16).astype(np.float32)
        lowest, highest = lowest / smoothing, highest / smoothing
    return Range(min(0.0, float(lowest.min())), max(0.0, float(highest.max())), smoothing)


def graph_of(bert: Bert, ranges: Ranges | None, *, heads: int, reads_first_token: bool = False) -> bytes:
    """The serialised model: `input_ids`, (texts, tokens) int64 without padding, to vectors, (texts, width) float32.

    `reads_first_token`: a text's vector is its first token's, not the mean of all. Without `ranges` it computes in
    float32 and has further outputs: the inputs of all products, for `range_of`.
    """
    return _Graph(bert, ranges, heads, reads_first_token).serialised()


def products(bert: Bert) -> Iterator[tuple[str, Dense]]:
    """All products by name, in the order in which they run."""
    for number, layer in enumerate(bert.layers):
        for name in PRODUCTS:
            yield f"{number}.{name}", getattr(layer, name)


class _Graph:
    def __init__(self, bert: Bert, ranges: Ranges | None, heads: int, reads_first_token: bool) -> None:
        self._ranges = ranges
        self._heads = heads
        self._epsilon = bert.epsilon
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[str] = []  # of the products
        hidden = self._layers(bert, self._embedded(bert))
        self._output = self._first(hidden) if reads_first_token else self._mean(hidden)

    def serialised(self) -> bytes:
        from onnx import TensorProto, helper

        outputs = [self._output, *(() if self._ranges else self._inputs)]
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [helper.make_tensor_value_info(INPUT_IDS, TensorProto.INT64, ["texts", "tokens"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self._constants,
        )
        versions = [helper.make_opsetid("", 17), helper.make_opsetid(_FUSED, 1)]
        serialised: bytes = helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString()
        return serialised

    def _embedded(self, bert: Bert) -> str:
        words = self._node("Gather", self._constant(bert.words), INPUT_IDS)
        begin, axis = self._constant(np.array([0])), self._constant(np.array([0]))
        count = self._node("Shape", INPUT_IDS, start=1, end=2)
        places = self._node("Slice", self._constant(bert.positions + bert.kind), begin, count, axis)
        added = self._node("Add", words, places)
        norm = [self._constant(part) for part in bert.norm]
        return self._node("LayerNormalization", added, *norm, axis=-1, epsilon=self._epsilon)

    def _layers(self, bert: Bert, hidden: str) -> str:
        thirds = self._constant(np.array([bert.width] * 3))
        for number, layer in enumerate(bert.layers):
            triple = self._product(f"{number}.attention", hidden, layer.attention)
            parts = self._outputs("Split", 3, triple, thirds, axis=-1)
            seen = self._node("MultiHeadAttention", *parts, domain=_FUSED, num_heads=self._heads)
            projected = self._product(f"{number}.projection", seen, layer.projection)
            hidden = self._normed(hidden, projected, layer.attention_norm)
            wide = self._product(f"{number}.widening", hidden, layer.widening)
            wide = self._node("Gelu", wide, domain=_FUSED)
            hidden = self._normed(
                hidden, self._product(f"{number}.narrowing", wide, layer.narrowing), layer.output_norm
            )
        return hidden

    def _product(self, name: str, inputs: str, dense: Dense) -> str:
        self._inputs.append(inputs)
        if self._ranges is None:
            return self._node(
                "Add", self._node("MatMul", inputs, self._constant(dense.weight)), self._constant(dense.bias)
            )
        of_inputs = self._ranges[name]
        weight = dense.weight
        if of_inputs.smoothing is not None:
            inputs = self._node("Mul", inputs, self._constant(1 / of_inputs.smoothing))
            weight = weight * of_inputs.smoothing[:, None]
        scale = max(of_inputs.high - of_inputs.low, _LEAST) / _LEVELS
        zero = self._constant(np.uint8(round(-of_inputs.low / scale)))
        scale_name = self._constant(np.float32(scale))
        scales = np.maximum(np.abs(weight).max(axis=0), _LEAST) / _LARGEST_WEIGHT
        return self._node(
            "MatMulIntegerToFloat",
            self._node("QuantizeLinear", inputs, scale_name, zero),
            self._constant(np.round(weight / scales).astype(np.int8)),
            scale_name,
            self._constant(scales.astype(np.float32)),
            zero,
            self._constant(np.zeros(weight.shape[1], np.int8)),
            self._constant(dense.bias),
            domain=_FUSED,
        )

    def _normed(self, hidden: str, added: str, norm: Norm) -> str:
        parts = [self._constant(part) for part in norm]
        return self._node("SkipLayerNormalization", hidden, added, *parts, domain=_FUSED, epsilon=self._epsilon)

    def _mean(self, hidden: str) -> str:
        return self._node("ReduceMean", hidden, axes=[1], keepdims=0)

    def _first(self, hidden: str) -> str:
        return self._node("Gather", hidden, self._constant(np.array(0)), axis=1)

    def _constant(self, value: NDArray[Any] | np.generic) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def _node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self._outputs(kind, 1, *inputs, domain=domain, **attributes)[0]

    def _outputs(self, kind: str, count: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        from onnx import helper

        outputs = [f"value_{len(self._nodes)}_{number}" for number in range(count)]
        self._nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs
