"""The weights of a BERT encoder out of an ONNX file, by what they do and not by what an exporter called them.

Exporters keep the names of biases and of layer norms (`encoder.layer.0.attention.self.query.bias`) and lose those of
matrices. A matrix is found from its bias: the bias is added to the matrix' product.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix, Vector
from streamer.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_LAYER = re.compile(r"encoder\.layer\.(\d+)\.attention\.self\.query\.bias$")
_ATTENTION = ("attention.self.query", "attention.self.key", "attention.self.value")


class Dense(NamedTuple):
    """x @ weight + bias; `weight`: (inputs, outputs)."""

    weight: Matrix
    bias: Vector


class Norm(NamedTuple):
    """Layer norm: gain and offset of each component."""

    gain: Vector
    offset: Vector


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `attention`: query, key and value side by side."""

    attention: Dense
    projection: Dense
    attention_norm: Norm
    widening: Dense
    narrowing: Dense
    output_norm: Norm


@dataclass(frozen=True, slots=True)
class Bert:
    """`words`, `positions`: a row for each token of the vocabulary and each place; `kind`: added to each of them.

    `epsilon`: of the layer norms.
    """

    words: Matrix
    positions: Matrix
    kind: Vector
    norm: Norm
    layers: tuple[Layer, ...]
    epsilon: float

    @property
    def width(self) -> int:
        return int(self.words.shape[1])


def read_bert(file: Path) -> Bert:
    """Raises MissingExtra, and ConfigurationError when the file does not hold a BERT encoder."""
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", "onnx") from None
    try:
        graph = onnx.load(str(file)).graph
    except Exception as exc:  # protobuf's errors have no class in common with the package's
        raise ConfigurationError(f"provider.model: {file} cannot be read: {exc}") from exc
    try:
        return _Reader(graph).bert()
    except (KeyError, ValueError) as exc:
        raise ConfigurationError(
            f"provider.model: {file} is not a BERT encoder as exporters write it: {exc}; it runs with "
            'provider.precision = "float32"'
        ) from exc


class _Reader:
    """Finds parts in a graph. Raises KeyError and ValueError for what is not there."""

    def __init__(self, graph: GraphProto) -> None:
        from onnx import numpy_helper

        self._constants: Mapping[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        self._producers: Mapping[str, NodeProto] = {output: node for node in graph.node for output in node.output}
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)

    def bert(self) -> Bert:
        layers = sorted({int(found.group(1)) for name in self._constants if (found := _LAYER.search(name))})
        if not layers or layers != list(range(len(layers))):
            raise ValueError("it has no attention layers with the usual names")
        kinds = self.embedding("token_type_embeddings")
        return Bert(
            words=self.embedding("word_embeddings"),
            positions=self.embedding("position_embeddings"),
            kind=kinds[0],
            norm=self.norm("embeddings.LayerNorm"),
            layers=tuple(self.layer(f"encoder.layer.{number}") for number in layers),
            epsilon=self.epsilon(),
        )

    def layer(self, name: str) -> Layer:
        parts = [self.dense(f"{name}.{part}") for part in _ATTENTION]
        return Layer(
            attention=Dense(np.concatenate([p.weight for p in parts], axis=1), np.concatenate([p.bias for p in parts])),
            projection=self.dense(f"{name}.attention.output.dense"),
            attention_norm=self.norm(f"{name}.attention.output.LayerNorm"),
            widening=self.dense(f"{name}.intermediate.dense"),
            narrowing=self.dense(f"{name}.output.dense"),
            output_norm=self.norm(f"{name}.output.LayerNorm"),
        )

    def dense(self, name: str) -> Dense:
        bias = self.named(f"{name}.bias")
        for addition in self._consumers[bias]:
            for other in addition.input:
                product = self._producers.get(other)
                if other != bias and product is not None and product.op_type == "MatMul":
                    return Dense(self.value(product.input[1]), self.value(bias))
        raise ValueError(f"nothing is multiplied before {bias} is added")

    def norm(self, name: str) -> Norm:
        return Norm(self.value(self.named(f"{name}.weight")), self.value(self.named(f"{name}.bias")))

    def embedding(self, name: str) -> Matrix:
        outputs = [
            n for n in (*self._constants, *self._producers) if n.endswith(f".{name}.weight") or n == f"{name}.weight"
        ]
        if len(outputs) != 1:
            raise KeyError(f"embeddings.{name}.weight")
        return self.value(outputs[0])

    def named(self, suffix: str) -> str:
        """The one constant of this name, whatever stands before it."""
        found = [name for name in self._constants if name == suffix or name.endswith(f".{suffix}")]
        if len(found) != 1:
            raise KeyError(suffix)
        return found[0]

    def value(self, name: str) -> Matrix:
        """A constant in float32, or what is computed of constants alone: stored integers times their scales."""
        if name in self._constants:
            return np.asarray(self._constants[name], np.float32)
        node = self._producers[name]
        parts = [self.value(part) for part in node.input]
        if node.op_type in ("Cast", "Identity"):
            return parts[0]
        if node.op_type == "Mul":
            return np.multiply(*parts)
        if node.op_type == "DequantizeLinear":
            zero = parts[2] if len(parts) > 2 else np.float32(0)
            return np.asarray((parts[0] - zero) * parts[1], np.float32)
        raise ValueError(f"{name} comes out of {node.op_type}, and not out of stored weights")

    def epsilon(self) -> float:
        values = self._of_norms("epsilon")
        return next(iter(values), 1e-12)  # BERT's own; graphs of older operator sets have no such node

    def _of_norms(self, attribute: str) -> Iterable[float]:
        for node in self._producers.values():
            if node.op_type == "LayerNormalization":
                yield from (a.f for a in node.attribute if a.name == attribute)
