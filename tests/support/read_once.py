"""What is the same for all tests and takes long to read is read once a process. As a pytest plugin: the bundled model,
and a certificate."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

from streamer.adapters.providers import onnx
from streamer.adapters.providers.onnx_encoder import SentenceEncoder
from streamer.adapters.providers.onnx_models import BUNDLED_MODEL, Precision, load


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    """All nodes of a source file."""
    return list(ast.walk(ast.parse(path.read_text())))


def bundled(precision: Precision | None = None) -> SentenceEncoder:
    """All-MiniLM-L6-v2, which takes half a second."""
    return _bundled(precision)


@functools.cache
def _bundled(precision: Precision | None) -> SentenceEncoder:
    return load(BUNDLED_MODEL, precision)


def _loaded(model: str, precision: Precision | None = None) -> SentenceEncoder:
    return bundled(precision) if model == BUNDLED_MODEL else load(model, precision)  # a folder may change


@pytest.fixture(autouse=True, scope="session")
def one_model() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "load", _loaded)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every HTTP client reads all authorities there are; hardly any test needs one, and those bring their own."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(first + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield
